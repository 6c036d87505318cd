"""Which image files a command line means, and what to call their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sapiens_client.errors import InvalidInputError
from sapiens_core.limits import IMAGE_FORMATS

IMAGE_SUFFIXES = frozenset({".jpg", ".tif", *(f".{name.lower()}" for name in IMAGE_FORMATS)})


def image_paths(images: Sequence[Path]) -> list[Path]:
    """Return the image files meant, each once: a folder stands for the images in it, sorted.

    Raises:
        InvalidInputError: A folder holds no image.
    """
    paths: list[Path] = []
    for image in images:
        if not image.is_dir():
            paths.append(image)
            continue
        inside = sorted(path for path in image.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not inside:
            formats = ", ".join(IMAGE_FORMATS)
            raise InvalidInputError(f"folder must hold images ({formats}), got none in {str(image)!r}")
        paths += inside
    return list(dict.fromkeys(paths))


def output_names(paths: Sequence[Path]) -> list[str]:
    """Return a distinct name per image: its stem; where stems repeat its file name, numbered if need be."""
    num_stems = Counter(path.stem for path in paths)
    names: dict[str, None] = {}
    for path in paths:
        base = path.stem if num_stems[path.stem] == 1 else path.name
        name, number = base, 1
        while name in names:
            number += 1
            name = f"{base}_{number}"
        names[name] = None
    return list(names)
