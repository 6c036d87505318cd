"""Results as objects of other libraries, which are loaded when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    import supervision
    from numpy.typing import NDArray


def table(columns: dict[str, Any]) -> pandas.DataFrame:
    """Return columns by name, all of one length, as a data frame.

    Raises:
        ImportError: pandas is not installed.
    """
    frame: pandas.DataFrame = _library("pandas").DataFrame(columns)
    return frame


def supervision_boxes(
    bboxes: NDArray[np.float32], scores: NDArray[np.float32], name: str
) -> supervision.Detections:
    """Return (N, 4) boxes and their (N,) scores, all of one class.

    Raises:
        ImportError: supervision is not installed.
    """
    detections: supervision.Detections = _library("supervision").Detections(
        xyxy=np.array(bboxes),
        confidence=np.array(scores),
        class_id=np.zeros(len(bboxes), dtype=int),
        data={"class_name": np.full(len(bboxes), name)},
    )
    return detections


def supervision_masks(
    class_map: NDArray[np.uint8], class_ids: Sequence[int], names: Sequence[str]
) -> supervision.Detections:
    """Return the mask of every class in an (H, W) map, and the box around it.

    Args:
        class_map: Which class every pixel has.
        class_ids: Those to return, all of which are in the map.
        names: Of all classes.

    Raises:
        ImportError: supervision is not installed.
    """
    library = _library("supervision")
    masks = class_map == np.array(class_ids, dtype=np.uint8)[:, None, None]
    detections: supervision.Detections = library.Detections(
        xyxy=library.mask_to_xyxy(masks) if len(masks) else np.zeros((0, 4)),
        mask=masks,
        class_id=np.array(class_ids, dtype=int),
        data={"class_name": np.array([names[each] for each in class_ids], dtype=str)},
    )
    return detections


def supervision_keypoints(
    keypoints: NDArray[np.float32], scores: NDArray[np.float32], bbox_scores: NDArray[np.float32] | None
) -> supervision.KeyPoints:
    """Return (N, K, 2) keypoints, their (N, K) scores, and those of the (N,) boxes where there are any.

    Points that are missing (NaN) are at 0, 0, where supervision draws none.

    Raises:
        ImportError: supervision is not installed.
    """
    points: supervision.KeyPoints = _library("supervision").KeyPoints(
        xy=np.nan_to_num(keypoints, nan=0.0),
        keypoint_confidence=np.array(scores),
        detection_confidence=None if bbox_scores is None else np.array(bbox_scores),
        class_id=np.zeros(len(keypoints), dtype=int),
    )
    return points


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        words = f"{name} must be installed for this, got none; pip install {name}"
        raise ModuleNotFoundError(words, name=name) from None
