"""What runs an engine, in which number format, and how its file is called."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Runtime = Literal["python", "torchscript", "aoti", "onnx", "tensorrt"]
Precision = Literal["float32", "float16", "bfloat16"]
PrecisionChoice = Literal["float32", "float16", "bfloat16", "auto"]  # auto: the fastest that is close enough

ENGINE_FILES: Mapping[Runtime, str] = MappingProxyType(
    {
        "python": "model.pt",
        "torchscript": "model.pt",
        "aoti": "model.pt2",
        "onnx": "model.onnx",
        "tensorrt": "model.plan",
    }
)
ONNX_OPSET = 22  # of engine files; the first one with bfloat16 convolutions
MIN_ONNXRUNTIME = (1, 21)  # the first release that reads it


def plan_profiles(max_batch_size: int) -> tuple[int, ...]:
    """Return the largest batch of every profile of a TensorRT plan, for which it is tuned."""
    return tuple(dict.fromkeys((1, max_batch_size)))
