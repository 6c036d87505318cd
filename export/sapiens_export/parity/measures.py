"""Engine against float32 network: the same fixed pixels through both, and how far apart the results are.

The network's outputs are kept beside the engine. So whoever has the repository can compare again, on the
machine that will serve it and without the checkpoint.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sapiens_core.contract.settings import MIN_PERSON_SCORE
from sapiens_core.contract.tensors import PATCHES, PEAKS
from sapiens_core.finish.normal import unit_normals
from sapiens_core.finish.pose import decoded_keypoints
from sapiens_core.finish.seg import class_map
from sapiens_core.recipes.lookup import TASKS
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.tolerances import MEASURES, MIN_KEYPOINT_SCORE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sapiens_export.engines.engine import Engine

    Outputs = Sequence[NDArray[Any]]

REFERENCE_FILE = "parity.npz"
_PIXELS = "pixels"
_TAIL = 99  # per cent
_AT_PEAKS = (PEAKS.name, PATCHES.name)


@dataclass(frozen=True)
class Reference:
    """What the float32 network answers to the fixed images.

    Attributes:
        task: What it predicts.
        pixels: (B, H, W, 3) uint8, RGB: the images.
        outputs: Its outputs in the order of the registry, B first.
        output_hw: Height and width of the network's output.
    """

    task: Task
    pixels: NDArray[np.uint8]
    outputs: Outputs
    output_hw: tuple[int, int]

    def save(self, path: Path) -> None:
        """Write the images and the outputs, by the names of their tensors."""
        names = [tensor.name for tensor in TASKS[self.task].engine.outputs]
        arrays = dict(zip(names, self.outputs, strict=True))
        with path.open("wb") as file:
            np.savez_compressed(file, **{_PIXELS: self.pixels, **arrays})

    @classmethod
    def load(cls, path: Path, task: Task, output_hw: tuple[int, int]) -> Reference:
        """Read what `save` wrote.

        Raises:
            ValueError: The file is missing or damaged.
        """
        names = [tensor.name for tensor in TASKS[task].engine.outputs]
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                pixels, outputs = arrays[_PIXELS], [arrays[name] for name in names]
                lengths = {len(each) for each in (pixels, *outputs)}
                if pixels.ndim != 4 or len(lengths) != 1 or 0 in lengths:
                    raise ValueError(f"it holds {pixels.shape} pixels and {[each.shape for each in outputs]}")
                return cls(task, pixels, outputs, output_hw)
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{path} must hold the float32 network's outputs, and cannot be read: {error}; "
                "export the engine again"
            ) from error


@dataclass(frozen=True)
class Measure:
    """One way in which an engine differs from the float32 network.

    Attributes:
        name: One of `sapiens_core.recipes.tolerances.MEASURES`.
        value: How much.
        limit: How much it may; None: this is only told.
    """

    name: str
    value: float
    limit: float | None

    @property
    def is_passed(self) -> bool:
        """It is a number, and within the limit if there is one."""
        return math.isfinite(self.value) and (self.limit is None or self.value <= self.limit)

    def __str__(self) -> str:
        allowed = "" if self.limit is None else f" ({self.limit:.2g} allowed)"
        return f"{self.name.replace('_', ' ')} {self.value:.2g} {MEASURES[self.name]}{allowed}"


@dataclass(frozen=True)
class ParityReport:
    """How far an engine is from the float32 network.

    Attributes:
        device: Where the engine ran: "cpu" or the name of the GPU.
        num_images: Images compared, each alone and in a batch where the engine takes one.
        measures: Of all outputs together, the worst one.
    """

    device: str
    num_images: int
    measures: tuple[Measure, ...]

    @property
    def is_passed(self) -> bool:
        """The engine may be installed. A NaN anywhere makes this false."""
        return all(measure.is_passed for measure in self.measures)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data; None stands for what is no number, which JSON has not."""
        measures = [
            {**asdict(each), "value": each.value if math.isfinite(each.value) else None}
            for each in self.measures
        ]
        return {**asdict(self), "measures": measures, "is_passed": self.is_passed}

    def __str__(self) -> str:
        told = [measure for measure in self.measures if measure.limit is not None or not measure.is_passed]
        return f"{', '.join(map(str, told))} on {self.num_images} images, {self.device}"


def reference(
    task: Task, network: Engine, input_hw: tuple[int, int], output_hw: tuple[int, int]
) -> Reference:
    """Ask a float32 network about the fixed images, one at a time.

    Args:
        task: What it predicts.
        network: (B, H, W, 3) uint8 RGB to arrays with a batch axis.
        input_hw: Height and width of its input.
        output_hw: Height and width of its output.
    """
    pixels = parity_pixels(input_hw)
    answers = [network(image[None]) for image in pixels]
    return Reference(task, pixels, [np.concatenate(parts) for parts in zip(*answers, strict=True)], output_hw)


def parity(
    engine: Engine,
    expected: Reference,
    limits: Mapping[str, float],
    *,
    device: str = "cpu",
    max_batch_size: int,
) -> ParityReport:
    """Compare an engine with the network it was made from.

    Args:
        engine: (B, H, W, 3) uint8 RGB to arrays with a batch axis.
        expected: What the network answers.
        limits: Largest allowed values by measure.
        device: Where the engine runs, for the report.
        max_batch_size: Largest batch that it takes.

    Raises:
        ValueError: The engine returns other shapes or types than the network.
    """
    order, outputs = _answers(engine, expected.pixels, max_batch_size)
    wanted = [output[order] for output in expected.outputs]
    _check_kinds(outputs, wanted)
    if expected.task is Task.DETECT:
        outputs = in_order_of(wanted, outputs)
    values = _raw_errors(expected.task, outputs, wanted) | _result_errors(expected, outputs, wanted)
    measures = tuple(Measure(name, value, limits.get(name)) for name, value in values.items())
    if missing := limits.keys() - values.keys():
        raise ValueError(f"limits must be of {sorted(values)}, got {sorted(missing)} too")
    return ParityReport(device, len(expected.pixels), measures)


def parity_pixels(input_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Make the fixed images: a portrait, and coarse blobs with noise.

    Args:
        input_hw: Height and width.

    Returns:
        (2, H, W, 3) uint8, RGB.
    """
    height, width = input_hw
    with as_file(files("sapiens_export") / "data" / "portrait.jpg") as path:
        portrait = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, size=(8, 6, 3), dtype=np.uint8)
    blobs = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(-32, 33, size=blobs.shape, dtype=np.int16)
    blobs_with_noise = np.clip(blobs + noise, 0, 255).astype(np.uint8)
    return np.stack([cv2.resize(portrait, (width, height)), blobs_with_noise])


def _answers(engine: Engine, pixels: NDArray[np.uint8], max_batch_size: int) -> tuple[list[int], Outputs]:
    """Return the outputs for single images and for a batch, and which image each of them is of."""
    singles = [[index] for index in range(len(pixels))]
    batches = singles if max_batch_size < len(pixels) else [singles[0], [*range(len(pixels))]]
    answers = [engine(pixels[batch]) for batch in batches]
    outputs = [np.concatenate(parts) for parts in zip(*answers, strict=True)]
    return [index for batch in batches for index in batch], outputs


def _check_kinds(outputs: Outputs, wanted: Outputs) -> None:
    seen, needed = ([(output.shape, output.dtype.name) for output in each] for each in (outputs, wanted))
    if seen != needed:
        raise ValueError(
            f"engine must return the shapes and types of the float32 network, {needed}, got {seen}"
        )


def _raw_errors(task: Task, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    names = [tensor.name for tensor in TASKS[task].engine.outputs]
    shares = [
        _differences(output, needed) / (_range(needed) or 1)
        for name, output, needed in zip(names, outputs, wanted, strict=True)
        if name not in _AT_PEAKS
    ]
    return {
        "max_error": float(np.max([share.max() for share in shares])),
        "mean_error": float(np.max([share.mean() for share in shares])),
    }


def _differences(output: NDArray[Any], wanted: NDArray[Any]) -> NDArray[np.float64]:
    differences: NDArray[np.float64] = np.abs(output.astype(np.float64) - wanted)
    return differences


def _range(output: NDArray[Any]) -> float:
    return float(np.ptp(output.astype(np.float64)))


def _result_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    compare = _COMPARISONS.get(expected.task)
    return compare(expected, outputs, wanted) if compare else {}


def _depth_errors(_expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    shares = [
        len(np.unique(seen)) / len(np.unique(item)) for seen, item in zip(outputs[0], wanted[0], strict=True)
    ]
    return {"lost_levels": max(0.0, 1 - min(shares))}


def _normal_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    hw = expected.output_hw
    seen, needed = (
        np.stack([unit_normals(item, None, hw) for item in each[0]]).astype(np.float64)
        for each in (outputs, wanted)
    )
    # Exact for small angles, where the arc cosine is not.
    sines, cosines = np.linalg.norm(np.cross(seen, needed), axis=3), (seen * needed).sum(axis=3)
    angles = np.degrees(np.arctan2(sines, cosines))
    return {"mean_angle": float(angles.mean()), "p99_angle": float(np.percentile(angles, _TAIL))}


def _class_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    _, height, width, _ = expected.pixels.shape
    hw = (height, width)
    seen, needed = (np.stack([class_map(item, None, hw) for item in each[0]]) for each in (outputs, wanted))
    return {"unequal_classes": float((seen != needed).mean())}


def _keypoint_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    """Compare keypoints that the network is sure of; where there is none, as of random weights, all."""
    network_wh, heatmap_wh = np.array(expected.pixels.shape[2:0:-1]), np.array(expected.output_hw[::-1])
    cells = _cells(outputs, expected.output_hw) - _cells(wanted, expected.output_hw)
    distances = np.linalg.norm(cells * network_wh / (heatmap_wh - 1), axis=2)
    is_sure = wanted[1] >= MIN_KEYPOINT_SCORE
    chosen = distances[is_sure] if is_sure.any() else distances
    return {
        "median_distance": float(np.median(chosen)),
        "p99_distance": float(np.percentile(chosen, _TAIL)),
    }


def _cells(outputs: Outputs, heatmap_hw: tuple[int, int]) -> NDArray[np.float64]:
    peaks, scores, patches, blurred_max = outputs
    return decoded_keypoints(peaks, scores, patches, blurred_max, heatmap_hw).astype(np.float64)


def _box_errors(expected: Reference, outputs: Outputs, wanted: Outputs) -> dict[str, float]:
    """Compare the boxes of what may be a person; where there is none, as of random weights, all."""
    is_sure = wanted[1] >= MIN_PERSON_SCORE
    chosen = is_sure if is_sure.any() else np.ones_like(is_sure)
    distances, errors = (_differences(*pair)[chosen] for pair in zip(outputs, wanted, strict=True))
    return {
        "median_distance": float(np.median(distances)),
        "p99_distance": float(np.percentile(distances, _TAIL)),
        "score_error": float(errors.max()),
    }


_COMPARISONS: Mapping[Task, Callable[[Reference, Outputs, Outputs], dict[str, float]]] = {
    Task.DEPTH: _depth_errors,
    Task.NORMAL: _normal_errors,
    Task.SEG: _class_errors,
    Task.POSE: _keypoint_errors,
    Task.DETECT: _box_errors,
}


def in_order_of(wanted: Outputs, outputs: Outputs) -> Outputs:
    """Put an engine's rows into the order of the network's: rounding may swap two boxes of a set.

    Args:
        wanted: The network's outputs, (B, rows, ...) each.
        outputs: The engine's, likewise; each row of the network is answered with the most similar one.
    """
    rows, expected = _rows(outputs), _rows(wanted)
    nearest = np.abs(expected[:, :, None] - rows[:, None]).max(axis=3).argmin(axis=2)
    images = np.arange(len(rows))[:, None]
    return [output[images, nearest] for output in outputs]


def _rows(outputs: Outputs) -> NDArray[np.float64]:
    """Put what belongs to one row side by side, each output as a share of its range: (B, rows, numbers)."""
    columns = [output.reshape(*output.shape[:2], -1).astype(np.float64) for output in outputs]
    return np.concatenate([column / (np.ptp(column) or 1) for column in columns], axis=2)
