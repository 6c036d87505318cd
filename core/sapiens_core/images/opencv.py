"""The functions of OpenCV that are used, with types: its own promise no more than some numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
_INTERPOLATIONS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC, "area": cv2.INTER_AREA}


def decoded_bgr(encoded: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Decode (B,) uint8, an image file, to (H, W, 3) BGR as it lies there; None: it is no whole image.

    Raises:
        ValueError: OpenCV gives up on it.
    """
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ValueError(f"image could not be decoded: {error.err}; save it again as PNG or JPEG") from error
    return cast("NDArray[np.uint8] | None", image)


def swapped_colours(image: NDArray[np.uint8], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Turn (H, W, 3) RGB into BGR, and BGR into RGB."""
    return cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out))


def transposed(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Swap rows and columns of (H, W, 3)."""
    return cast("NDArray[np.uint8]", cv2.transpose(image))


def flipped(image: NDArray[np.uint8], code: int) -> NDArray[np.uint8]:
    """Flip (H, W, 3): upside down by the code 0, left to right by 1, both by -1."""
    return cast("NDArray[np.uint8]", cv2.flip(image, code))


def resized(image: NDArray[T], hw: tuple[int, int], interpolation: str = "bilinear") -> NDArray[T]:
    """Resize (h, w) or (h, w, C) to (H, W, ...), with half-pixel centres.

    Args:
        image: What to resize.
        hw: H and W.
        interpolation: "bilinear" or "bicubic", both without antialiasing, or "area", which averages.
    """
    flag = _INTERPOLATIONS[interpolation]
    return cast("NDArray[T]", cv2.resize(cast("NDArray[np.uint8]", image), hw[::-1], interpolation=flag))


def padded(image: NDArray[np.uint8], hw: tuple[int, int], top: int, left: int) -> NDArray[np.uint8]:
    """Put (h, w, 3) into a black (H, W, 3), `top` rows and `left` columns from its corner."""
    below, beside = hw[0] - image.shape[0] - top, hw[1] - image.shape[1] - left
    return cast(
        "NDArray[np.uint8]",
        cv2.copyMakeBorder(image, top, below, left, beside, borderType=cv2.BORDER_CONSTANT, value=(0, 0, 0)),
    )


def extended(image: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Repeat the last row and column of (h, w, 3) until it is (H, W, 3)."""
    below, beside = hw[0] - image.shape[0], hw[1] - image.shape[1]
    return cast(
        "NDArray[np.uint8]", cv2.copyMakeBorder(image, 0, below, 0, beside, borderType=cv2.BORDER_REPLICATE)
    )


def warp(
    image: NDArray[np.uint8],
    matrix: NDArray[np.float32],
    out: NDArray[np.uint8],
    interpolation: str = "bilinear",
) -> None:
    """Fill (h, w, 3) with an image that a (2, 3) matrix maps to it, black outside the image.

    Args:
        image: (H, W, 3).
        matrix: Times (x, y, 1) in the image, it is the place in `out`.
        out: What to fill.
        interpolation: "bilinear" or "bicubic".
    """
    cv2.warpAffine(image, matrix, out.shape[1::-1], dst=out, flags=_INTERPOLATIONS[interpolation])


def smoothed(image: NDArray[np.float32], size: int, sigma: float) -> NDArray[np.float32]:
    """Blur (H, W, C) with a Gaussian of `size` x `size` taps; at the border the image is mirrored."""
    blurred = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    return cast("NDArray[np.float32]", blurred)


def merged(
    planes: Sequence[NDArray[np.float32]], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Interleave C planes, (H, W) each, to (H, W, C)."""
    return cast("NDArray[np.float32]", cv2.merge(planes, out))


def magnitude(x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lengths of vectors (x, y), (H, W) each."""
    return cast("NDArray[np.float32]", cv2.magnitude(x, y))


def sobel(plane: NDArray[np.float32], *, axis: int, size: int) -> NDArray[np.float32]:
    """Differentiate (H, W) down the image (axis 0) or across it (axis 1), with a kernel of this size."""
    return cast("NDArray[np.float32]", cv2.Sobel(plane, cv2.CV_32F, axis, 1 - axis, ksize=size))


def filtered(plane: NDArray[np.float32], taps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter (H, W) with the same taps along both axes; beyond its border it is 0."""
    return cast("NDArray[np.float32]", cv2.sepFilter2D(plane, -1, taps, taps, borderType=cv2.BORDER_CONSTANT))


def gaussian_taps(count: int) -> NDArray[np.float32]:
    """Return taps of a Gaussian, of shape (count,); OpenCV chooses its width by their number."""
    return cast("NDArray[np.float32]", cv2.getGaussianKernel(count, 0, cv2.CV_32F)[:, 0])


def inferno_bgr(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour (H, W) grey levels with OpenCV's inferno: (H, W, 3) BGR."""
    return cast("NDArray[np.uint8]", cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO))


def turbo_bgr(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour (H, W) grey levels with OpenCV's turbo: (H, W, 3) BGR."""
    return cast("NDArray[np.uint8]", cv2.applyColorMap(levels, cv2.COLORMAP_TURBO))


def outlines(mask: NDArray[np.bool_]) -> list[list[list[int]]]:
    """Follow the borders of (H, W) bool, also those of holes: lists of corners x, y, pixels."""
    lines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [line[:, 0].tolist() for line in lines]


def float16_of(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Round (H, ...) arrays to the nearest, above 65504 to infinity, as fast as OpenCV lets it be."""
    if not _has_halves():
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    return cv2.convertFp16(rows).view(np.float16).reshape(values.shape)


def float32_of(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Convert (C, ...) arrays, as fast as OpenCV lets it be."""
    if not _has_halves():
        return halves.astype(np.float32)
    rows = np.ascontiguousarray(halves).view(np.int16).reshape(len(halves), -1)
    return cast("NDArray[np.float32]", cv2.convertFp16(rows)).reshape(halves.shape)


def _has_halves() -> bool:
    """Return whether OpenCV uses the instructions for it, which numpy does not: OpenCV 5 has no function."""
    return hasattr(cv2, "convertFp16")
