"""How much shared memory the models of a repository can take, and whether there is so much.

The processes of Python models exchange tensors with tritonserver through regions in /dev/shm, which grow to
the largest request with its answer and never shrink. Containers have 64 MB there unless told otherwise.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sapiens_core.contract.folders import CONFIG_FILE
from sapiens_core.contract.tensors import IMAGE

FOLDER = Path("/dev/shm")
_MB = 2**20  # as in --shm-size
_REGION_BYTES = 2 * 2**20  # of an empty region, and by which it grows
_PIXEL_BYTES = 3  # of an image as large as its pixels, as clients send arrays
_DTYPE_BYTES = {"BOOL": 1, "UINT8": 1, "FP16": 2, "INT32": 4, "FP32": 4}
_PYTHON = re.compile(r'^backend:\s*"python"', re.MULTILINE)
_TENSOR = re.compile(r"^(?:input|output)\s*\{([^{}]*)\}", re.MULTILINE)
_NAME = re.compile(r'name:\s*"(\w+)"')
_DTYPE = re.compile(r"data_type:\s*TYPE_(\w+)")
_DIM = re.compile(r"dims:\s*(-?\d+)")
_COUNT = re.compile(r"^instance_group\s*\{[^{}]*?count:\s*(\d+)", re.MULTILINE)
_BATCH = re.compile(
    r"max_batch_size:\s*(\d+)|key:\s*\"max_batch_size\"\s*value\s*\{\s*string_value:\s*\"(\d+)\""
)


@dataclass(frozen=True)
class Need:
    """What models can take.

    Attributes:
        fixed_bytes: Whatever the images.
        pixel_bytes: For each pixel of the largest image.
    """

    fixed_bytes: int
    pixel_bytes: int

    def num_bytes(self, max_pixels: int) -> int:
        """Return how much it is with images of at most so many pixels."""
        return self.fixed_bytes + self.pixel_bytes * max_pixels


def need_of(repository: Path, models: Sequence[str]) -> Need:
    """Return what the models that `sapiens export` wrote can take: each instance a request and its answer."""
    fixed = per_pixel = 0
    for name in models:
        config = (repository / name / CONFIG_FILE).read_text(encoding="utf-8", errors="replace")
        if not _PYTHON.search(config):
            continue
        found = _COUNT.search(config)
        count = int(found[1]) if found else 1
        fixed += count * _REGION_BYTES
        for is_of_image, num_bytes in _tensors(config):
            fixed += 0 if is_of_image else count * num_bytes
            per_pixel += count * num_bytes if is_of_image else 0
    return Need(fixed, per_pixel)


def shortage(need: Need, max_pixels: int) -> str:
    """Say what of the shared memory is missing; empty: nothing."""
    stat = os.statvfs(FOLDER)
    free, needed = stat.f_bavail * stat.f_frsize, need.num_bytes(max_pixels)
    needed_mb = math.ceil(needed / _MB)
    if needed <= free:
        return ""
    fitting = (free - need.fixed_bytes) // need.pixel_bytes if need.pixel_bytes else 0
    instead = f", or set --max-image-pixels to at most {fitting}" if fitting > 0 else ""
    return (
        f"warning: {FOLDER} must have {needed_mb} MB free for images of {max_pixels} pixels, got "
        f"{free // _MB} MB: large images may fail; give the container --shm-size={needed_mb}m{instead}"
    )


def _tensors(config: str) -> Iterator[tuple[bool, int]]:
    """Tell of each tensor whether it grows with the image, and its bytes, for one pixel or in all."""
    batch = max((int(number) for pair in _BATCH.findall(config) for number in pair if number), default=1)
    for block in _TENSOR.findall(config):
        name, dtype, dims = (
            _NAME.search(block),
            _DTYPE.search(block),
            [int(dim) for dim in _DIM.findall(block)],
        )
        if name is None or dtype is None:
            continue
        if name[1] == IMAGE.name:
            yield True, _PIXEL_BYTES
            continue
        num_bytes = _DTYPE_BYTES.get(dtype[1], 8) * math.prod(dim for dim in dims if dim > 0)
        num_free = dims.count(-1)
        yield num_free > 1, num_bytes * (1 if num_free > 1 else max(batch, 1))
