"""Persons of an image to the uint8 pixels that the pose engine takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.images.opencv import resized, swapped_colours, warp
from sapiens_core.prepare.geometry import person_bboxes, person_crops, udp_matrices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import Interpolation, Preprocess, StepSettings


@dataclass(frozen=True)
class PersonInputs:
    """What the pose engine and the steps after it need of one image.

    Attributes:
        pixels: (N, network height, network width, 3) uint8, RGB: one crop per person.
        crops: (N, 4) float32, center x, y and scale w, h of the crops, image pixels.
        person_bboxes: (N, 4) float32, xyxy, image pixels: the boxes as used.
        image_hw: (2,) int32, height and width of the image.
    """

    pixels: NDArray[np.uint8]
    crops: NDArray[np.float32]
    person_bboxes: NDArray[np.float32]
    image_hw: NDArray[np.int32]


def person_inputs(
    image_bgr: NDArray[np.uint8], bboxes: NDArray[np.float32] | None, settings: StepSettings
) -> PersonInputs:
    """Prepare the persons of an image for the pose engine.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        bboxes: (N, 4) float32, xyxy, image pixels. None: the whole image is one person.
        settings: Size of the network's input, largest N, and the way of cropping.

    Raises:
        ValueError: There are no or too many boxes, or one of them cannot be used.
    """
    height, width, _ = image_bgr.shape
    checked = person_bboxes(bboxes, (height, width), max_bboxes=settings.max_batch_size)
    crops = person_crops(checked, (height, width) if settings.preprocess == "lite" else settings.network_hw)
    pixels = person_pixels(
        image_bgr,
        crops,
        settings.network_hw,
        preprocess=settings.preprocess,
        interpolation=settings.interpolation,
    )
    return PersonInputs(pixels, crops, checked, np.array([height, width], dtype=np.int32))


def person_pixels(
    image_bgr: NDArray[np.uint8],
    crops: NDArray[np.float32],
    network_hw: tuple[int, int],
    *,
    preprocess: Preprocess = "full",
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """Cut persons out of an image, each stretched to the network's input size.

    Args:
        image_bgr: (H, W, 3) uint8, BGR.
        crops: (N, 4) float32, center x, y and scale w, h, image pixels. What lies outside the image is black.
        network_hw: Height and width of the network's input.
        preprocess: "lite" warps each crop to the size of the image and then resizes it; its crops should have
            the image's aspect ratio. For comparison with the lite demo's results only.
        interpolation: "bilinear", or "area_or_bicubic": bilinear too where a person shrinks along a side, for
            no warp averages areas, else bicubic.

    Returns:
        (N, network height, network width, 3) uint8, RGB.

    Source: Sapiens and Sapiens2 `TopdownAffine` (UDP) and, for "lite", `preprocess_pose`.
    """
    height, width = network_hw
    warped_hw = (image_bgr.shape[0], image_bgr.shape[1]) if preprocess == "lite" else network_hw
    pixels = np.empty((len(crops), height, width, 3), dtype=np.uint8)
    warped = np.empty((*warped_hw, 3), dtype=np.uint8)
    for matrix, person in zip(udp_matrices(crops, warped_hw), pixels, strict=True):
        warp(image_bgr, matrix, warped, _interpolation(matrix, interpolation))
        swapped_colours(resized(warped, network_hw) if preprocess == "lite" else warped, out=person)
    return pixels


def _interpolation(matrix: NDArray[np.float32], interpolation: Interpolation) -> str:
    is_shrinking = min(matrix[0, 0], matrix[1, 1]) < 1
    return "bicubic" if interpolation == "area_or_bicubic" and not is_shrinking else "bilinear"
