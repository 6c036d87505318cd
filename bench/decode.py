"""What decoding keypoints costs: one person with 308 keypoints, heatmaps of 256 x 192, one CPU thread.

    python bench/decode.py [--rounds 15]

All contenders share one run and take turns in every round; times are lower quartiles of the rounds.

  whole maps, looped   the reference's way: blur every map, rescale, clip, take logarithms, read nine cells
  udp_decode           from the same heatmaps, with blur and logarithm of what surrounds the peaks
  decoded_keypoints    from what the engine returns: peaks, scores, patches and maxima of the blurred maps
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from measure import Sample, load, summary

from sapiens_core.finish.pose import (
    blurred_maxima,
    decoded_keypoints,
    heatmap_patches,
    heatmap_peaks,
    udp_decode,
)
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task

POSE = first_recipe(Task.POSE)
NUM_KEYPOINTS = POSE.variants[0].num_outputs
HEATMAP_HW = (POSE.network_hw[0] // POSE.output_stride, POSE.network_hw[1] // POSE.output_stride)
BASELINE = "whole maps, looped"
BLUR_TAPS = 11
CALLS_PER_ROUND = 3


def synthetic_heatmaps(seed: int = 0) -> np.ndarray:
    """Return (1, K, h, w) float32: the peaks that the networks learn, some weak, some cut off, with noise."""
    rng = np.random.default_rng(seed)
    height, width = HEATMAP_HW
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    heatmaps = rng.normal(0, 0.01, (1, NUM_KEYPOINTS, height, width)).astype(np.float32)
    for heatmap in heatmaps[0]:
        x, y = rng.uniform(-3, width + 3), rng.uniform(-3, height + 3)
        heatmap += rng.uniform(0.02, 1) * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6**2))
    return heatmaps


def looped_decode(heatmaps: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Decode (K, h, w) heatmaps as the reference does, into (K, 2); `logs` is scratch of their shape."""
    num_keypoints, height, width = heatmaps.shape
    border = (BLUR_TAPS - 1) // 2
    for heatmap, log in zip(heatmaps, logs, strict=True):
        padded = np.zeros((height + 2 * border, width + 2 * border), dtype=np.float32)
        padded[border:-border, border:-border] = heatmap
        log[...] = cv2.GaussianBlur(padded, (BLUR_TAPS, BLUR_TAPS), 0)[border:-border, border:-border]
        log *= heatmap.max() / log.max()
    np.clip(logs, 1e-3, 50, out=logs)
    np.log(logs, out=logs)
    surface = np.pad(logs, ((0, 0), (1, 1), (1, 1)), mode="edge")
    cells = heatmaps.reshape(num_keypoints, -1).argmax(axis=1)
    peaks = np.stack([cells % width, cells // width], axis=1).astype(np.float32)
    return peaks - newton_steps(surface, cells % width + 1, cells // width + 1)


def newton_steps(surface: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (K, 2), the reference's steps at one cell of every map."""

    def at(dx: int, dy: int) -> np.ndarray:
        return surface[np.arange(len(surface)), rows + dy, columns + dx]

    dx, dy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    dxx, dyy = at(1, 0) - 2 * at(0, 0) + at(-1, 0), at(0, 1) - 2 * at(0, 0) + at(0, -1)
    dxy = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * at(0, 0) - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
    hessians = np.stack([dxx, dxy, dxy, dyy], axis=1).reshape(-1, 2, 2) + np.finfo(np.float32).eps * np.eye(2)
    return np.einsum("kij,kj->ki", np.linalg.inv(hessians), np.stack([dx, dy], axis=1))


def contenders(heatmaps: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Return one call per way to decode, each giving (K, 2) keypoints in heatmap cells."""
    peaks, scores = heatmap_peaks(heatmaps)
    patches, blurred_max = heatmap_patches(heatmaps, peaks), blurred_maxima(heatmaps)
    return {
        BASELINE: partial(looped_decode, heatmaps[0], np.empty_like(heatmaps[0])),
        "`udp_decode`": lambda: udp_decode(heatmaps)[0][0],
        "`decoded_keypoints`": lambda: decoded_keypoints(peaks, scores, patches, blurred_max, HEATMAP_HW)[0],
    }


def measured(calls: dict[str, Callable[[], np.ndarray]], rounds: int) -> dict[str, Sample]:
    """Let all contenders take turns; the first round only warms up."""
    samples: dict[str, list[Sample]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            samples[name].append(load([call], CALLS_PER_ROUND, [os.getpid()]))
    return {name: summary(taken[1:]) for name, taken in samples.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    heatmaps = synthetic_heatmaps()
    is_strong = heatmaps.max(axis=(2, 3))[0] > 0.1
    calls = contenders(heatmaps)
    samples = measured(calls, options.rounds)
    expected = calls[BASELINE]()
    print("| decode | speed | CPU | ms | largest difference, cells | where the score > 0.1 |")
    print("|---|---|---|---|---|---|")
    for name, sample in samples.items():
        speed = samples[BASELINE].latency_ms / sample.latency_ms
        cpu = sample.cpu_ms / samples[BASELINE].cpu_ms
        errors = np.abs(calls[name]() - expected).max(axis=1)
        print(
            f"| {name} | x{speed:.1f} | x{cpu:.3f} | {sample.latency_ms:.2f} | {errors.max():.1e} "
            f"| {errors[is_strong].max():.1e} |"
        )


if __name__ == "__main__":
    main()
