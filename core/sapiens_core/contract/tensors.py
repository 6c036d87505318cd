"""The tensors that pass between client, steps and engines: names, types and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

DType = Literal["BOOL", "UINT8", "INT32", "FP16", "FP32"]
DTYPE_BYTES: Mapping[DType, int] = MappingProxyType({"BOOL": 1, "UINT8": 1, "INT32": 4, "FP16": 2, "FP32": 4})
HEATMAP_STRIDE = 4  # pixels of a pose network's input per cell of its heatmaps, along each side
# A request's parameter: "FP16" asks for float32 results as large as the image in half precision. Configs say
# FP32, which is what every other request gets.
RESULT_DTYPE = "result_dtype"
PEAK_PATCH = 13  # cells around a heatmap's peak that the UDP decode can see: an 11-tap blur and one neighbour


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor of the contract.

    Attributes:
        name: The name in every model that takes or returns it.
        dtype: Triton data type without the `TYPE_` prefix.
        dims: Shape of one item. A number is fixed and -1 is free; "H", "W" are the network input's size, "h",
            "w" the network output's, "C" its number of channels.
        is_batched: A batch axis stands before `dims`.
        is_optional: A caller may leave it out.
    """

    name: str
    dtype: DType
    dims: tuple[int | str, ...]
    is_batched: bool = False
    is_optional: bool = False

    @property
    def is_halvable(self) -> bool:
        """Whether a caller may have it as float16: it is of floats and as large as the image."""
        return self.dtype == "FP32" and self.dims[:2] == (-1, -1)


IMAGE = TensorSpec("image", "UINT8", (-1,))
# Beside an optional input: Triton counts the inputs that come, and an ensemble without its image would never
# end. So it is left to the step to refuse that in words.
CHECKED_IMAGE = replace(IMAGE, is_optional=True)
IMAGE_HW = TensorSpec("image_hw", "INT32", (2,))
FINISH_HW = TensorSpec("finish_hw", "INT32", (2,))  # the same once more, see `StepSpec`
PIXELS = TensorSpec("pixels", "UINT8", ("H", "W", 3), is_batched=True)
DEPTH_MAP = TensorSpec("depth_map", "FP32", ("C", "h", "w"), is_batched=True)
DEPTH = TensorSpec("depth", "FP32", (-1, -1))
NORMAL_MAP = TensorSpec("normal_map", "FP32", ("C", "h", "w"), is_batched=True)
NORMALS = TensorSpec("normals", "FP32", (-1, -1, 3))
LOGITS = TensorSpec("logits", "FP16", ("C", "h", "w"), is_batched=True)
CLASS_MAP = TensorSpec("class_map", "UINT8", (-1, -1))
MARGINS = TensorSpec("margins", "UINT8", ("C", "h", "w"), is_batched=True)  # see `finish.margins`
MARGIN_RANGE = TensorSpec("margin_range", "FP16", ("h", "w"), is_batched=True)
POINT_MAP = TensorSpec("point_map", "FP32", ("C", "h", "w"), is_batched=True)
POINT_MAP_SCALE = TensorSpec("scale", "FP32", (1,), is_batched=True)
MATTE = TensorSpec("matte", "FP32", ("C", "h", "w"), is_batched=True)
ALBEDO_MAP = TensorSpec("albedo_map", "FP32", ("C", "h", "w"), is_batched=True)
POINTS = TensorSpec("points", "FP32", (-1, -1, 3))
SCALE = TensorSpec("scale", "FP32", (1,))
FOCAL_LENGTH = TensorSpec("focal_length", "FP32", (1,))
INTRINSICS = TensorSpec("intrinsics", "FP32", (3, 3))
VALID = TensorSpec("valid", "UINT8", (-1, -1))
ALPHA = TensorSpec("alpha", "FP32", (-1, -1))
FOREGROUND = TensorSpec("foreground", "FP32", (-1, -1, 3))
ALBEDO = TensorSpec("albedo", "UINT8", (-1, -1, 3))
FEATURE_MAP = TensorSpec("features", "FP32", ("C", "h", "w"), is_batched=True)
BBOXES = TensorSpec("bboxes", "FP32", (-1, 4), is_optional=True)
PERSON_BBOXES = TensorSpec("person_bboxes", "FP32", (4,), is_batched=True)
CROPS = TensorSpec("crops", "FP32", (4,), is_batched=True)
PEAKS = TensorSpec("peaks", "INT32", ("C", 2), is_batched=True)
SCORES = TensorSpec("scores", "FP32", ("C",), is_batched=True)
PATCHES = TensorSpec("patches", "FP32", ("C", PEAK_PATCH, PEAK_PATCH), is_batched=True)
BLURRED_MAX = TensorSpec("blurred_max", "FP32", ("C",), is_batched=True)
KEYPOINTS = TensorSpec("keypoints", "FP32", ("C", 2), is_batched=True)
CANDIDATE_BBOXES = TensorSpec("candidate_bboxes", "FP32", ("C", 4), is_batched=True)
CANDIDATE_SCORES = TensorSpec("candidate_scores", "FP32", ("C",), is_batched=True)
DETECTED_BBOXES = TensorSpec("bboxes", "FP32", (-1, 4))
DETECTED_SCORES = TensorSpec("scores", "FP32", (-1,))
BBOX_SCORES = TensorSpec("bbox_scores", "FP32", (-1,))
WHOLE_IMAGE_IF_NOBODY = TensorSpec("whole_image_if_nobody", "BOOL", (1,), is_optional=True)
