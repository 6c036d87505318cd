"""Heatmaps to keypoints: peaks, what surrounds them, and the sub-cell refinement from that alone.

The reference blurs whole heatmaps and takes their logarithm to read nine cells of each. Those nine depend on
the cells around the peak and on one number more, so an engine returns just these, and a person with 308
keypoints travels as 0.2 MB instead of 60.

Letters in shapes: N persons, K keypoints, h x w cells of a heatmap, P cells of a patch's side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.contract.tensors import HEATMAP_STRIDE, PEAK_PATCH
from sapiens_core.images.opencv import filtered, gaussian_taps
from sapiens_core.prepare.geometry import image_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_core.contract.settings import StepSettings

LOG_RANGE = (1e-3, 50.0)  # the reference clips blurred heatmaps to it before the logarithm
EPSILON = float(np.finfo(np.float32).eps)


def heatmap_peaks(heatmaps: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the highest cell of every heatmap; of several, the first in reading order.

    Args:
        heatmaps: (N, K, h, w) float32.

    Returns:
        peaks: (N, K, 2) int32, column and row, heatmap cells.
        scores: (N, K) float32, the value there: about 1 for a certain keypoint, 0 or less for none.

    Raises:
        ValueError: `heatmaps` is not (N, K, h, w) float32.

    Source: Sapiens `get_heatmap_maximum`. It moves peaks with a score <= 0 to (-1, -1), which the refinement
    then uses as an index; here they stay in place and are told apart by their score.
    """
    _check_heatmaps(heatmaps)
    persons, keypoints, height, width = heatmaps.shape
    flat = heatmaps.reshape(persons, keypoints, height * width)
    cells = flat.argmax(axis=2)
    rows, columns = np.divmod(cells, width)
    peaks = np.stack([columns, rows], axis=2).astype(np.int32)
    return peaks, np.take_along_axis(flat, cells[..., None], axis=2)[..., 0]


def heatmap_patches(
    heatmaps: NDArray[np.float32], peaks: NDArray[np.int32], *, patch_size: int = PEAK_PATCH
) -> NDArray[np.float32]:
    """Cut out what surrounds the peaks.

    Args:
        heatmaps: (N, K, h, w) float32.
        peaks: (N, K, 2) int32, column and row, heatmap cells.
        patch_size: P, odd: the taps of the decode's blur and one more on either side.

    Returns:
        (N, K, P, P) float32 with the peak in the middle, zero outside the heatmap.

    Raises:
        ValueError: `heatmaps` is not (N, K, h, w) float32.
    """
    _check_heatmaps(heatmaps)
    persons, keypoints, height, width = heatmaps.shape
    offsets = np.arange(patch_size) - patch_size // 2
    columns, rows = (peaks[..., axis, None] + offsets for axis in (0, 1))
    inside = _is_within(rows, height)[..., :, None] & _is_within(columns, width)[..., None, :]
    patches = heatmaps[
        np.arange(persons)[:, None, None, None],
        np.arange(keypoints)[:, None, None],
        rows.clip(0, height - 1)[..., :, None],
        columns.clip(0, width - 1)[..., None, :],
    ]
    return np.where(inside, patches, np.float32(0))


def blurred_maxima(heatmaps: NDArray[np.float32], *, patch_size: int = PEAK_PATCH) -> NDArray[np.float32]:
    """Find the maximum of every blurred heatmap, wherever it lies.

    Args:
        heatmaps: (N, K, h, w) float32.
        patch_size: P, odd: the taps of the decode's blur and one more on either side.

    Returns:
        (N, K) float32.

    Raises:
        ValueError: `heatmaps` is not (N, K, h, w) float32.
    """
    _check_heatmaps(heatmaps)
    maxima = [_blurred(heatmap, patch_size).max() for person in heatmaps for heatmap in person]
    return np.array(maxima, dtype=np.float32).reshape(heatmaps.shape[:2])


def decoded_keypoints(
    peaks: NDArray[np.int32],
    scores: NDArray[np.float32],
    patches: NDArray[np.float32],
    blurred_max: NDArray[np.float32],
    heatmap_hw: tuple[int, int],
) -> NDArray[np.float32]:
    """Refine peaks to a fraction of a cell from what surrounds them.

    Args:
        peaks: (N, K, 2) int32, column and row, heatmap cells.
        scores: (N, K) float32, the value of the heatmap at the peak.
        patches: (N, K, P, P) float32, the heatmap around the peak, zero outside.
        blurred_max: (N, K) float32, the maximum of the blurred heatmap.
        heatmap_hw: h and w.

    Returns:
        (N, K, 2) float32, x and y, heatmap cells. Keypoints with a score <= 0 are at their peak's cell.

    Raises:
        ValueError: The shapes do not fit together, or P is even or below 5.

    Source: Sapiens `UDPHeatmap.decode` up to the scaling to network pixels, equal to it where the score is
    positive. Elsewhere the reference reads other keypoints' heatmaps or returns NaN.
    """
    _check_peaks(peaks, scores, patches, blurred_max, heatmap_hw)
    around = _blurred_around(patches, peaks, heatmap_hw)
    return _refined(peaks, scores, around, blurred_max)


def udp_decode(
    heatmaps: NDArray[np.float32], *, patch_size: int = PEAK_PATCH
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode whole heatmaps.

    Args:
        heatmaps: (N, K, h, w) float32.
        patch_size: P, odd: the taps of the decode's blur and one more on either side.

    Returns:
        keypoints: (N, K, 2) float32, x and y, heatmap cells, as of `decoded_keypoints`.
        scores: (N, K) float32, the value of the heatmap at its peak.

    Raises:
        ValueError: `heatmaps` is not (N, K, h, w) float32.
    """
    peaks, scores = heatmap_peaks(heatmaps)
    patches = heatmap_patches(heatmaps, peaks, patch_size=patch_size)
    around = _blurred_around(patches, peaks, (heatmaps.shape[2], heatmaps.shape[3]))
    # Differences of logarithms do not see a common factor. Only where the clip acts does its value matter.
    is_clipped = (scores > 0) & ((around.min(axis=(2, 3)) < LOG_RANGE[0]) | (scores > LOG_RANGE[1]))
    blurred_max = scores.copy()
    blurred_max[is_clipped] = blurred_maxima(heatmaps[is_clipped][None], patch_size=patch_size)[0]
    return _refined(peaks, scores, around, blurred_max), scores


def image_keypoints(
    peaks: NDArray[np.int32],
    scores: NDArray[np.float32],
    patches: NDArray[np.float32],
    blurred_max: NDArray[np.float32],
    crops: NDArray[np.float32],
    heatmap_hw: tuple[int, int],
) -> NDArray[np.float32]:
    """Decode keypoints and map them from the persons' crops to the image.

    Args:
        peaks: (N, K, 2) int32, column and row, heatmap cells.
        scores: (N, K) float32, the value of the heatmap at the peak.
        patches: (N, K, P, P) float32, the heatmap around the peak, zero outside.
        blurred_max: (N, K) float32, the maximum of the blurred heatmap.
        crops: (N, 4) float32, center x, y and scale w, h, image pixels.
        heatmap_hw: h and w.

    Returns:
        (N, K, 2) float32, x and y, image pixels; may lie outside the image.

    Raises:
        ValueError: The shapes do not fit together.
    """
    keypoints = decoded_keypoints(peaks, scores, patches, blurred_max, heatmap_hw)
    if crops.shape != (len(peaks), 4):
        raise ValueError(
            f"crops must be ({len(peaks)}, 4) like peaks, got {crops.shape}; pass one per person"
        )
    return image_points(keypoints, crops, heatmap_hw).astype(np.float32)


def finish(
    peaks: NDArray[np.int32],
    scores: NDArray[np.float32],
    patches: NDArray[np.float32],
    blurred_max: NDArray[np.float32],
    crops: NDArray[np.float32],
    settings: StepSettings,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Do what the ensemble's last step does: see `image_keypoints`; it hands on the scores (N, K)."""
    height, width = (side // HEATMAP_STRIDE for side in settings.network_hw)
    return image_keypoints(peaks, scores, patches, blurred_max, crops, (height, width)), scores


def _refined(
    peaks: NDArray[np.int32],
    scores: NDArray[np.float32],
    around: NDArray[np.float32],
    blurred_max: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Take one Newton step from every peak on the logarithm of the blurred heatmap."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rescaled = around * (scores / blurred_max)[..., None, None]
        step = _newton_step(np.log(rescaled.clip(*LOG_RANGE)))
    is_defined = (scores > 0) & np.isfinite(step).all(axis=2)
    return np.where(is_defined[..., None], peaks - step, peaks).astype(np.float32)


def _newton_step(surface: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, K, 2), the inverse Hessian times the gradient at the middle of (N, K, 3, 3) cells."""
    (upper_left, up, _), (left, middle, right), (_, down, lower_right) = np.moveaxis(surface, (2, 3), (0, 1))
    dx, dy = (right - left) / 2, (down - up) / 2
    # The reference's mixed difference takes two of the four corners. Its epsilon keeps flat maps invertible.
    dxy = ((lower_right - right - down + middle + middle - left - up + upper_left) / 2).astype(np.float64)
    dxx = (right - 2 * middle + left).astype(np.float64) + EPSILON
    dyy = (down - 2 * middle + up).astype(np.float64) + EPSILON
    adjugate_times_gradient = np.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], axis=2)
    step: NDArray[np.float64] = adjugate_times_gradient / (dxx * dyy - dxy * dxy)[..., None]
    return step


def _blurred_around(
    patches: NDArray[np.float32], peaks: NDArray[np.int32], heatmap_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Blur the 3 x 3 cells in the middle of each patch; beyond the heatmap's border its edge repeats."""
    size = patches.shape[-1]
    taps = _blur_taps(size)
    band = np.zeros((size, 3), dtype=np.float32)
    for column in range(3):
        band[column : column + size - 2, column] = taps
    with np.errstate(invalid="ignore", over="ignore"):
        around = band.T @ (patches @ band)
    columns, rows = (
        (peaks[..., axis, None] + (-1, 0, 1)).clip(0, length - 1) - peaks[..., axis, None] + 1
        for axis, length in enumerate(heatmap_hw[::-1])
    )
    around = np.take_along_axis(around, rows[..., :, None], axis=2)
    return np.take_along_axis(around, columns[..., None, :], axis=3)


def _blurred(heatmap: NDArray[np.float32], patch_size: int) -> NDArray[np.float32]:
    taps = _blur_taps(patch_size)
    return filtered(heatmap, taps)


def _blur_taps(patch_size: int) -> NDArray[np.float32]:
    """Return the reference's blur, (P - 2,): OpenCV chooses sigma by the number of taps, 2.0 for 11."""
    return gaussian_taps(patch_size - 2)


def _is_within(index: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    return (index >= 0) & (index < size)


def _check_heatmaps(heatmaps: NDArray[np.float32]) -> None:
    if heatmaps.ndim != 4 or heatmaps.dtype != np.float32:
        raise ValueError(
            f"heatmaps must be (N, K, h, w) float32, got {heatmaps.shape} {heatmaps.dtype}; "
            "add the axis of persons with heatmaps[None]"
        )


def _check_peaks(
    peaks: NDArray[np.int32],
    scores: NDArray[np.float32],
    patches: NDArray[np.float32],
    blurred_max: NDArray[np.float32],
    heatmap_hw: tuple[int, int],
) -> None:
    """Check everything against the peaks."""
    if peaks.ndim != 3 or peaks.shape[2] != 2:
        raise ValueError(
            f"peaks must be (N, K, 2), got {peaks.shape}; add the axis of persons with peaks[None]"
        )
    for name, array in {"scores": scores, "blurred_max": blurred_max}.items():
        if array.shape != peaks.shape[:2]:
            raise ValueError(f"{name} must be {peaks.shape[:2]} like peaks, got {array.shape}")
    size = patches.shape[-1]
    if patches.shape != (*peaks.shape[:2], size, size) or size < 3 or size % 2 == 0:
        raise ValueError(
            f"patches must be {peaks.shape[:2]} like peaks, then P x P with odd P, got {patches.shape}"
        )
    if ((peaks < 0) | (peaks >= heatmap_hw[::-1])).any():
        raise ValueError(
            f"peaks must be columns and rows within the heatmap of (h, w) = {heatmap_hw}, got up to "
            f"{peaks.reshape(-1, 2).max(axis=0).tolist()}; check the order of both"
        )
