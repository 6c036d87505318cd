"""Which image files a command line means, and what to call their results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sapiens_client.errors import InvalidInputError
from sapiens_core.limits import IMAGE_FORMATS

if TYPE_CHECKING:
    from sapiens_client.saving import Format, ImageId

IMAGE_SUFFIXES = frozenset({".jpg", ".tif", *(f".{name.lower()}" for name in IMAGE_FORMATS)})


@dataclass(frozen=True)
class ImageFile:
    """An image that a command line means.

    Attributes:
        path: Where it is.
        name: What its results are called, below the folder for results. It follows from the image and the
            command line alone, not from what else is in a folder: it stays the same when the folder grows.
    """

    path: Path
    name: str

    @property
    def image_id(self) -> ImageId:
        """What COCO calls the image: the number that its name is, else its name with the suffix."""
        return int(self.path.stem) if self.path.stem.isdecimal() else self.path.name

    def result(self, folder: Path, task: str, suffix: str) -> Path:
        """Return the path of a result.

        Args:
            folder: For results.
            task: What was asked.
            suffix: How the name ends.
        """
        return folder / f"{self.name}_{task}{suffix}"

    def is_done(self, folder: Path, tasks: Iterable[str], formats: Sequence[Format]) -> bool:
        """Return whether all results are there; files bear their names once they are complete.

        Args:
            folder: For results.
            tasks: What was asked.
            formats: What is written about each.
        """
        suffixes = [suffix for form in formats for suffix in (form.suffix, *form.beside)]
        return all(self.result(folder, task, suffix).is_file() for task in tasks for suffix in suffixes)


def image_files(images: Iterable[Path]) -> Iterator[ImageFile]:
    """Tell the image files meant, each once: a folder stands for the images in it, sorted.

    Results are called as the image files; those of several folders stand in folders of their names.

    Args:
        images: Files and folders; a folder is read when it is its turn.
    """
    images = tuple(dict.fromkeys(images))
    files = {image for image in images if not image.is_dir()}
    has_one_folder = len(images) - len(files) <= 1
    for image in images:
        if image in files:
            yield ImageFile(image, image.name)
            continue
        inside = "" if has_one_folder else f"{_folder_name(image)}/"
        for name in sorted(_images_in(image)):
            if (path := image / name) not in files:
                yield ImageFile(path, inside + name)


def check_images(images: Iterable[Path]) -> None:
    """Refuse what cannot be told apart by name, without reading whole folders.

    Raises:
        InvalidInputError: A folder holds no image, or two images or folders would have the same results.
    """
    images = tuple(dict.fromkeys(images))
    folders = [image for image in images if image.is_dir()]
    files = [image for image in images if image not in folders]
    for folder in folders:
        if not any(_images_in(folder)):
            formats = ", ".join(IMAGE_FORMATS)
            raise InvalidInputError(f"folder must hold images ({formats}), got none in {str(folder)!r}")
    pairs = [*_of_same_name(files, [file.name for file in files])]
    pairs += _of_same_name(folders, map(_folder_name, folders))
    if len(folders) == 1:
        twins = [(file, folders[0] / file.name) for file in files]
        pairs += [(file, twin) for file, twin in twins if twin.is_file() and not twin.samefile(file)]
    for one, other in pairs:
        raise InvalidInputError(
            f"images must differ in name, got {str(one)!r} and {str(other)!r}; "
            "ask about them one at a time, each with its own -o"
        )


def _images_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                yield entry.name


def _folder_name(folder: Path) -> str:
    return folder.resolve().name


def _of_same_name(paths: Iterable[Path], names: Iterable[str]) -> Iterator[tuple[Path, Path]]:
    first: dict[str, Path] = {}
    for path, name in zip(paths, names, strict=True):
        if (other := first.setdefault(name, path)) is not path:
            yield other, path
