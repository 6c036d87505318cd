"""Measure the demo networks: `python -m training.evaluate assets/demo_networks --held-out held_out`.

On held-out renders against exact labels, and on a photograph against the opinion of independent networks
(`training.judges`). The photograph goes the product's own way, from the bytes of its file to the results.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sapiens_core.contract.settings import StepSettings
from sapiens_core.labels import keypoint_set
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_core.recipes.tolerances import MIN_KEYPOINT_SCORE
from sapiens_export.engines.engine import engine_from_network
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.networks.config import read_network
from sapiens_export.parity import pipeline
from sapiens_export.weights.sources import source_from_checkpoint
from training.dataset import Shards, plain_batch
from training.measures import Measures
from training.network import normalized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sapiens_export.engines.engine import Engine
    from sapiens_export.weights.sources import Source

_TASKS = (Task.SEG, Task.NORMAL, Task.DEPTH, Task.POSE)
_BATCH = 32
KEPT_STEP = 4


@dataclass(frozen=True)
class Agreement:
    """How far results on a photograph are those of the judges.

    Attributes:
        outline_iou: Intersection over union of the two outlines.
        distances: Of every judged keypoint by its name, in shares of the image's height.
    """

    outline_iou: float
    distances: Mapping[str, float]


def agreement(
    class_map: NDArray[np.uint8], keypoints: NDArray[np.float32], opinion: Mapping[str, NDArray[Any]]
) -> Agreement:
    """Compare results on a photograph with what `training.judges.judged` returned.

    Args:
        class_map: (H, W) uint8; 0 is the background.
        keypoints: (17, 2) float32, x and y, pixels.
        opinion: The judges'.
    """
    inside, outline = class_map > 0, opinion["outline"]
    names = keypoint_set("coco").names
    return Agreement(
        float((inside & outline).sum() / (inside | outline).sum()),
        {
            str(name): float(np.linalg.norm(keypoints[names.index(name)] - point) / len(class_map))
            for name, point in zip(opinion["names"], opinion["keypoints"], strict=True)
        },
    )


def render_measures(folder: Path, held_out: Shards) -> Measures:
    """Ask the networks in a folder about renders."""
    sources = {task: _source(task, folder) for task in _TASKS}
    input_hw = sources[Task.SEG].config.input_hw
    measures = Measures()
    for start in range(0, len(held_out), _BATCH):
        batch = plain_batch(held_out, range(start, min(start + _BATCH, len(held_out))), input_hw)
        with torch.inference_mode():
            images = normalized(batch.images)
            measures.add({task: source.network(images) for task, source in sources.items()}, batch)
    return measures


@dataclass(frozen=True)
class Results:
    """What the networks make of a photograph.

    Attributes:
        class_map: (H, W) uint8.
        normals: (H, W, 3) float32, unit x, y, z. Kept results have every `KEPT_STEP`th row and column.
        depth: (H, W) float32, larger is farther; kept like the normals.
        keypoints: (17, 2) float32, x and y, pixels; of the person in a given box.
        scores: (17,) float32, of the keypoints.
    """

    class_map: NDArray[np.uint8]
    normals: NDArray[np.float32]
    depth: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Differences:
    """How far results are from others of the same photograph; all zero where they are equal.

    Attributes:
        classes: Share of the pixels with another class.
        normals: Mean angle on the person, degrees.
        depth: Mean difference on the person, relative to the mean deviation from its median.
        keypoints: Mean distance, pixels; of keypoints that are there.
    """

    classes: float
    normals: float
    depth: float
    keypoints: float


def differences(results: Results, expected: Results) -> Differences:
    """Compare results of a photograph with kept ones."""
    kept = (slice(None, None, KEPT_STEP),) * 2
    inside = expected.class_map[kept] > 0
    cosine = (results.normals[kept][inside] * expected.normals[inside]).sum(axis=1)
    depth = expected.depth[inside]
    deviation = np.abs(depth - np.median(depth)).mean()
    is_there = expected.scores >= MIN_KEYPOINT_SCORE
    return Differences(
        classes=float((results.class_map != expected.class_map).mean()),
        normals=float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
        depth=float(np.abs(results.depth[kept][inside] - depth).mean() / deviation),
        keypoints=float(np.linalg.norm(results.keypoints - expected.keypoints, axis=1)[is_there].mean()),
    )


def photograph_results(folder: Path, encoded: bytes, bbox: Sequence[float]) -> Results:
    """Send a photograph the product's way through the networks in a folder.

    Args:
        folder: With the networks.
        encoded: Bytes of an image file.
        bbox: xyxy of the person, pixels.
    """
    sources = {task: _source(task, folder) for task in _TASKS}
    engines = {task: _engine(source) for task, source in sources.items()}
    input_hw = sources[Task.SEG].config.input_hw
    settings = StepSettings(input_hw, max_batch_size=1)
    boxes = np.array([bbox], np.float32)
    keypoints, scores = pipeline.pose(encoded, engines[Task.POSE], settings, boxes)
    return Results(
        class_map=pipeline.classes(encoded, engines[Task.SEG], input_hw),
        normals=pipeline.normals(encoded, engines[Task.NORMAL], input_hw),
        depth=pipeline.depth(encoded, engines[Task.DEPTH], input_hw),
        keypoints=keypoints[0],
        scores=scores[0],
    )


def save_results(results: Results, path: Path) -> None:
    """Keep results for comparison, normals and depth thinned out and rounded to float16."""
    arrays = {name: getattr(results, name) for name in Results.__dataclass_fields__}
    halves = {
        name: arrays[name][::KEPT_STEP, ::KEPT_STEP].astype(np.float16) for name in ("normals", "depth")
    }
    np.savez_compressed(path, **arrays | halves)


def load_results(path: Path) -> Results:
    """Read what `save_results` wrote."""
    with np.load(path) as arrays:
        halves = {name: arrays[name].astype(np.float32) for name in ("normals", "depth")}
        exact = {name: arrays[name] for name in ("class_map", "keypoints", "scores")}
        return Results(**exact, **halves)


def _source(task: Task, folder: Path) -> Source:
    config = read_network(folder / f"{task.value}.json", task)
    return source_from_checkpoint(task, folder / f"{task.value}.safetensors", config)


def _engine(source: Source) -> Engine:
    served = ServedNetwork(source.network, NORMALIZATIONS["full"], source.config.recipe, precision="float32")
    return engine_from_network(served.eval(), "cpu")


def main() -> None:
    """Print the figures as the README's table has them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", type=Path)
    parser.add_argument("--held-out", type=Path, help="folder of renders that no training has seen")
    parser.add_argument("--photograph", type=Path, help="image file with one person")
    parser.add_argument("--bbox", type=float, nargs=4, help="xyxy of that person, as the detector finds it")
    parser.add_argument("--opinion", type=Path, help="what training.judges wrote about it")
    parser.add_argument("--keep", type=Path, help="folder to keep the photograph's results in, for the tests")
    options = parser.parse_args()
    together = [bool(each) for each in (options.photograph, options.bbox, options.opinion)]
    if any(together) and not all(together):
        parser.error("--photograph, --bbox and --opinion must come together; give all or none")
    if options.keep and not options.photograph:
        parser.error("--keep must come with --photograph, whose results it keeps; add it or leave --keep out")
    if options.held_out:
        measures = render_measures(options.networks, Shards(options.held_out))
        for name, value in measures.figures().items():
            print(f"| {name} | {value:.3f} |")
        print(", ".join(f"{name} {iou:.2f}" for name, iou in measures.class_iou().items()))
    if options.photograph:
        results = photograph_results(options.networks, options.photograph.read_bytes(), options.bbox)
        if options.keep:
            save_results(results, options.keep / "results.npz")
        with np.load(options.opinion) as opinion:
            found = agreement(results.class_map, results.keypoints, opinion)
        print(f"| outline IoU with the judge | {found.outline_iou:.3f} |")
        for name, distance in found.distances.items():
            print(f"| {name}, share of the height | {distance:.3f} |")


if __name__ == "__main__":
    main()
