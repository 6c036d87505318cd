"""Which image files a command line means, and what to call their results."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sapiens_client.errors import InvalidInputError
from sapiens_client.tasks.images import IMAGE_SUFFIXES
from sapiens_client.tasks.table import AnalysisTask

if TYPE_CHECKING:
    from sapiens_client.results.saving import Format, ImageId

STDIN = Path("-")
_MAX_DIGITS = 18  # of a number that COCO's tools keep
_SUFFIXES = "|".join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES))
_TASKS = "|".join(AnalysisTask)
# What a command calls its pictures: those of further models begin with a task, too.
_RESULT = re.compile(
    rf"(?P<image>.+\.({_SUFFIXES}))_({_TASKS})(_[a-z0-9_.-]*?)?(\.16|\.ids|\.cutout)?\.(png|jpg)",
    re.IGNORECASE,
)


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
    def number(self) -> int | None:
        """The number that the image's name is, if it is one."""
        stem = self.path.stem
        return int(stem) if stem.isascii() and stem.isdecimal() and len(stem) <= _MAX_DIGITS else None

    def image_id(self, *, is_number: bool) -> ImageId:
        """Return what COCO calls the image: the number that its name is, or the name of its results."""
        return self.number if is_number and self.number is not None else self.name

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
        return all(_is_file(self.result(folder, task, suffix)) for task in tasks for suffix in suffixes)


class ImageFiles:
    """The image files that a command line means, each once: a folder stands for the images in it, sorted.

    Results are called as the image files. Where that does not tell files apart, and where there is more than
    one folder, results keep the path below what the files and folders have in common.

    Args:
        images: Files and folders; a folder is read when it is its turn. `-` is what standard input brings.
        recursive: Take the images in folders of folders, too.
    """

    def __init__(self, images: Iterable[Path], *, recursive: bool = False) -> None:
        images = list(images)
        self._has_stdin = STDIN in images
        named = [image for image in images if image != STDIN]
        places = {os.path.abspath(image): image for image in named}  # noqa: PTH100  links stay as they are
        self._folders = {place: image for place, image in places.items() if _is_dir(image)}
        self._files = {place: image for place, image in places.items() if place not in self._folders}
        self._places = [*places]
        self._recursive = recursive
        names = [image.name for image in self._files.values()]
        self._is_flat = not self._folders and len({*names}) == len(names)
        self._root = _common_folder([*self._folders, *map(os.path.dirname, self._files)])

    def __iter__(self) -> Iterator[ImageFile]:
        return self.found(Counter())

    def found(self, left_out: Counter[str]) -> Iterator[ImageFile]:
        """Tell the images, and count what is left out, by what it is."""
        if self._has_stdin:
            yield ImageFile(STDIN, "stdin")
        for place in self._places:
            if place in self._folders:
                yield from self._in_folder(self._folders[place], left_out)
            elif self._is_result(place):
                left_out["results of earlier runs"] += 1
            else:
                yield self._image(self._files[place])

    def check(self) -> None:
        """Refuse folders without an image.

        Raises:
            InvalidInputError: There is one.
            OSError: A folder cannot be read.
        """
        for folder in self._folders.values():
            left_out: Counter[str] = Counter()
            if next(self._in_folder(folder, left_out), None) is None:
                words = f"; left out: {listed(left_out)}" if left_out else ""
                raise InvalidInputError(f"folder must hold images, got none in {str(folder)!r}{words}")

    def have_numbers(self) -> bool:
        """Return whether the names of all images are numbers, and no two the same."""
        seen: set[int] = set()
        for image in self:
            if image.number is None or image.number in seen:
                return False
            seen.add(image.number)
        return True

    def _image(self, path: Path) -> ImageFile:
        place = os.path.abspath(path)  # noqa: PTH100
        return ImageFile(
            path, path.name if self._is_flat else Path(os.path.relpath(place, self._root)).as_posix()
        )

    def _in_folder(self, folder: Path, left_out: Counter[str]) -> Iterator[ImageFile]:
        with os.scandir(folder) as entries:
            listing = sorted(entries, key=lambda entry: entry.name)
        inner = []
        for entry in listing:
            path = folder / entry.name
            if entry.name.startswith("."):
                left_out["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                inner.append(path)
            elif _RESULT.fullmatch(entry.name):
                left_out["results of earlier runs"] += 1
            elif path.suffix.lower() not in IMAGE_SUFFIXES:
                left_out[
                    "linked folders" if entry.is_dir() else f"{path.suffix or 'nameless'} (no images)"
                ] += 1
            elif os.path.abspath(path) not in self._files:  # noqa: PTH100
                yield self._image(path)
        for path in inner:
            yield from self._in_inner(path, left_out)

    def _in_inner(self, folder: Path, left_out: Counter[str]) -> Iterator[ImageFile]:
        if not self._recursive:
            left_out["folders (--recursive takes what is in them)"] += 1
        elif os.path.abspath(folder) not in self._folders:  # noqa: PTH100
            try:
                yield from self._in_folder(folder, left_out)
            except OSError as error:
                left_out[f"folders that cannot be read ({error})"] += 1

    def _is_result(self, place: str) -> bool:
        """Return whether a file that was named is a result about an image that is here, too."""
        match = _RESULT.fullmatch(Path(place).name)
        image = match and str(Path(place).with_name(match["image"]))
        return bool(image) and (image in self._files or _is_file(Path(str(image))))


def listed(left_out: Counter[str]) -> str:
    """Return in words how many of what were left out."""
    return ", ".join(f"{number} {what}" for what, number in sorted(left_out.items()))


def _common_folder(folders: Sequence[str]) -> str:
    return os.path.commonpath(folders) if folders else os.curdir


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # such a name cannot be, which reading it will tell
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
