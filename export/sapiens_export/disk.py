"""Room on the disk for what an export writes: looked at before the work, and said when it was too little."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from rich.filesize import decimal

from sapiens_core.contract.tensors import DTYPE_BYTES
from sapiens_core.recipes.lookup import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sapiens_core.contract.engines import Precision, Runtime
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_export.networks.config import EngineConfig

NUM_REFERENCE_IMAGES = 2  # that the outputs of the float32 network are kept of
_WEIGHT_BYTES: Mapping[Precision, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ELSEWHERE = "export to another disk"
# How often the weights are on the disk at the same time: TensorRT starts from an ONNX file.
_FILES: Mapping[Runtime, int] = {"python": 1, "torchscript": 1, "onnx": 1, "tensorrt": 2}


class DiskFullError(OSError):
    """A disk has not enough room; the message says how much is needed, and how much there is."""


def needed_bytes(num_parameters: int, config: EngineConfig, info: ModelInfo) -> int:
    """Return about how much an export writes before it is done: engine files, and the network's outputs.

    Args:
        num_parameters: Weights of the network.
        config: Its architecture.
        info: What is made of it.
    """
    weights = num_parameters * _WEIGHT_BYTES[info.precision] * _FILES[info.runtime]
    return weights + NUM_REFERENCE_IMAGES * _num_output_bytes(config)


def check_room(folder: Path, needed: int) -> None:
    """Refuse before the work what would not fit.

    Args:
        folder: Where it is to be written, or would be made.
        needed: About how many bytes.

    Raises:
        DiskFullError: There is less room.
    """
    if _free_bytes(folder) < needed:
        raise _too_little(folder, needed, _ELSEWHERE)


@contextmanager
def told_if_full(folder: Path, needed: int, advice: str = _ELSEWHERE) -> Iterator[None]:
    """Say how much room is needed where writing failed for want of it.

    Args:
        folder: Where it is written.
        needed: About how many bytes in all.
        advice: What to do but to free some.

    Raises:
        DiskFullError: Writing failed for that.
    """
    try:
        yield
    except OSError as error:
        # numpy's errors have no number, but it fails at half-written arrays for nothing else.
        is_full = error.errno in _FULL or (error.errno is None and "written" in str(error))
        if not is_full:
            raise
        raise _too_little(folder, needed, advice) from error


def room(folder: Path, needed: int) -> str:
    """Return in words how much is needed and how much there is."""
    return f"about {decimal(needed)} needed, {decimal(_free_bytes(folder))} free"


def existing(folder: Path) -> Path:
    """Return the folder, or the one that it would be made in."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(existing(folder)).free


def _too_little(folder: Path, needed: int, advice: str) -> DiskFullError:
    return DiskFullError(
        f"the disk of {folder} must have room for what is written, got {room(folder, needed)}, of which "
        f"a quota may allow less; free some, or {advice}"
    )


def _num_output_bytes(config: EngineConfig) -> int:
    sizes = dict(zip("hw", config.output_hw, strict=True)) | {"C": config.num_outputs}
    outputs = TASKS[config.task].engine.outputs
    shapes = [[sizes[dim] if isinstance(dim, str) else dim for dim in output.dims] for output in outputs]
    return sum(
        int(np.prod(shape)) * DTYPE_BYTES[output.dtype] for shape, output in zip(shapes, outputs, strict=True)
    )
