"""What finishing costs: engine outputs to results at image size, against the same in plain PyTorch.

    OPENBLAS_NUM_THREADS=1 python bench/finish.py [--rounds 12] [--size 1080x1440]

One thread each, one process; contenders take turns in every round, a time is the lower quartile of the
rounds. PyTorch gets float32 tensors and interpolates as the reference does; the product gets float16 logits.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from sapiens_core.finish.depth import image_depth
from sapiens_core.finish.normal import unit_normals
from sapiens_core.finish.seg import class_map

HEAD_HW = (512, 384)
NETWORK_HW = (1024, 768)
NUM_CLASSES = 28
NEAR_TIE = 1e-4
TOLERANCE = 1e-4

Finish = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Contest:
    """One engine output, finished by the product and by PyTorch."""

    product: Finish
    reference: Finish
    check: Callable[[np.ndarray, np.ndarray], str]


def waves(rng: np.random.Generator, num_planes: int, cells: int, hw: tuple[int, int]) -> np.ndarray:
    """Return smooth random planes, (C, h, w) float32, with bumps of this many cells."""
    coarse = rng.normal(size=(num_planes, hw[0] // cells, hw[1] // cells)).astype(np.float32)
    return np.stack([cv2.resize(plane, hw[::-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])


def person_logits(rng: np.random.Generator) -> np.ndarray:
    """Return logits whose classes are ellipses around the middle of a background, two of each class."""
    height, width = HEAD_HW
    y, x = np.mgrid[:height, :width].astype(np.float32)
    logits = np.full((NUM_CLASSES, *HEAD_HW), -4, np.float32)
    logits[0] = 2
    for plane in logits[1:]:
        for _ in range(2):
            center_y, center_x = height * rng.uniform(0.1, 0.9), width * rng.uniform(0.35, 0.65)
            radius_y, radius_x = height * rng.uniform(0.03, 0.15), width * rng.uniform(0.03, 0.12)
            bump = 10 - 6 * (((y - center_y) / radius_y) ** 2 + ((x - center_x) / radius_x) ** 2)
            np.maximum(plane, bump, out=plane)
    return logits + 0.3 * waves(rng, NUM_CLASSES, 8, HEAD_HW)


def torch_interpolated(planes: torch.Tensor, image_hw: tuple[int, int]) -> torch.Tensor:
    """Interpolate (C, h, w) through the network's input size to the image."""
    at_network = interpolate(planes[None], NETWORK_HW, mode="bilinear", align_corners=False)
    return interpolate(at_network, image_hw, mode="bilinear", align_corners=False)[0]


def torch_classes(logits: torch.Tensor, image_hw: tuple[int, int]) -> np.ndarray:
    """Find the class of every pixel."""
    return torch_interpolated(logits, image_hw).argmax(dim=0).to(torch.uint8).numpy()


def torch_normals(normal_map: torch.Tensor, image_hw: tuple[int, int]) -> np.ndarray:
    """Resize normals and scale them to unit length."""
    normals = torch_interpolated(normal_map, image_hw).permute(1, 2, 0).numpy()
    return normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-5)


def torch_depth(depth_map: torch.Tensor, image_hw: tuple[int, int]) -> np.ndarray:
    """Resize depth."""
    depth = interpolate(depth_map[None, None], image_hw, mode="bilinear", align_corners=False)
    return depth[0, 0].numpy()


def same_classes(logits: torch.Tensor, found: np.ndarray, expected: np.ndarray) -> str:
    """Demand equal classes except where the two best logits are nearly equal, and count those."""
    rows, columns = np.nonzero(found != expected)
    if len(rows):
        best = torch_interpolated(logits, found.shape)[:, rows, columns].topk(2, dim=0).values
        worst = float((best[0] - best[1]).max())
        if worst >= NEAR_TIE:
            sys.exit(f"classes must differ at near ties only, got a gap of {worst:g} between the best logits")
    return f"{len(rows)} of {found.size} pixels differ"


def close(found: np.ndarray, expected: np.ndarray) -> str:
    """Demand nearly equal numbers and return the largest difference."""
    worst = float(np.abs(found - expected).max())
    if worst > TOLERANCE:
        sys.exit(f"results must agree within {TOLERANCE:g}, got {worst:g}")
    return f"largest difference {worst:.1e}"


def contests(image_hw: tuple[int, int]) -> dict[str, Contest]:
    """Return what is measured; the outputs are random, with the shapes of the released networks."""
    rng = np.random.default_rng(0)
    kinds = {
        "person": person_logits(rng),
        "busy": 3 * waves(rng, NUM_CLASSES, 16, HEAD_HW),
        "noise": rng.normal(size=(NUM_CLASSES, *HEAD_HW)),
    }
    result = {}
    for kind, values in kinds.items():
        logits = values.astype(np.float16)
        tensor = torch.from_numpy(logits).float()
        result[f"classes, {kind}"] = Contest(
            partial(class_map, logits, NETWORK_HW, image_hw),
            partial(torch_classes, tensor, image_hw),
            partial(same_classes, tensor),
        )
    normal_map = waves(rng, 3, 32, HEAD_HW) + np.float32([[[0.5]], [[-0.5]], [[2]]])
    result["normals"] = Contest(
        partial(unit_normals, normal_map, NETWORK_HW, image_hw),
        partial(torch_normals, torch.from_numpy(normal_map), image_hw),
        close,
    )
    depth_map = waves(rng, 1, 32, NETWORK_HW)[0]
    result["depth"] = Contest(
        partial(image_depth, depth_map, image_hw),
        partial(torch_depth, torch.from_numpy(depth_map), image_hw),
        close,
    )
    return result


def seconds(finish: Finish) -> float:
    """Time one call."""
    started = time.perf_counter()
    finish()
    return time.perf_counter() - started


def extra_mebibytes(finish: Finish) -> float:
    """Return the peak of numpy's and OpenCV's memory beyond the result."""
    tracemalloc.start()
    result = finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (peak - result.nbytes) / 2**20


def main() -> None:
    """Measure and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--size", default="1080x1440", help="width x height of the image")
    options = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        sys.exit("OPENBLAS_NUM_THREADS must be 1 when numpy starts; set it before the command")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    width, height = map(int, options.size.split("x"))
    print(f"| to {options.size} | product | PyTorch | faster | memory beyond the result | agreement |")
    print("|---|---|---|---|---|---|")
    for name, contest in contests((height, width)).items():
        agreement = contest.check(contest.product(), contest.reference())
        times = [(seconds(contest.product), seconds(contest.reference)) for _ in range(options.rounds)]
        product_s, reference_s = np.quantile(times, 0.25, axis=0)
        cells = [
            name,
            f"{product_s * 1e3:.1f} ms",
            f"{reference_s * 1e3:.1f} ms",
            f"x{reference_s / product_s:.1f}",
            f"{extra_mebibytes(contest.product):.1f} MiB",
            agreement,
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
