"""Shards of rendered people to batches: random framing and colours, and labels in the networks' own terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from sapiens_core.labels import class_set, keypoint_set

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

# Depths, in mean deviations of the person's from its median: of the background, and the largest of a person.
# With a farther background a pixel of a wrong outline would cost more than all else that is wrong with depth.
FAR, _LARGEST = 2.0, 3.0
_BOX_PADDING = 1.25  # of the reference's person crops
_FLIPPED_CLASSES = np.arange(28, dtype=np.uint8)
for _index, _name in enumerate(class_set("goliath").names):
    _other = _name.replace("Left", "Right") if "Left" in _name else _name.replace("Right", "Left")
    _FLIPPED_CLASSES[_index] = class_set("goliath").names.index(_other)
_FLIPPED_KEYPOINTS = list(keypoint_set("coco").flip_indices)


@dataclass(frozen=True)
class Batch:
    """Images and labels, B of them at the networks' input size.

    Attributes:
        images: (B, 3, H, W) float32, RGB, 0..255.
        classes: (B, H, W) int64.
        normals: (B, 3, H, W) float32, unit vectors; towards the camera, (0, 0, 1), outside the person.
        depth: (B, H, W) float32: the person's median is 0 and its mean deviation 1, the background is `FAR`.
        keypoints: (B, 17, 2) float32, x and y, pixels from the first pixel's centre.
    """

    images: Tensor
    classes: Tensor
    normals: Tensor
    depth: Tensor
    keypoints: Tensor


class Shards:
    """All samples of a folder, in memory.

    Args:
        folder: Where `training.render` writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[dict[str, NDArray[np.generic]]] = []
        self._names: set[str] = set()
        self.refresh()

    def __len__(self) -> int:
        return sum(len(file["image"]) for file in self._files)

    def refresh(self) -> None:
        """Take in shards that were finished since."""
        for path in sorted(self._folder.glob("*.npz")):
            if path.name not in self._names:
                self._names.add(path.name)
                with np.load(path) as arrays:
                    self._files.append({name: arrays[name] for name in arrays})

    def sample(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Return the arrays of one `training.render.Sample`."""
        for file in self._files:
            if index < len(file["image"]):
                return {name: array[index] for name, array in file.items()}
            index -= len(file["image"])
        raise IndexError(f"there are {len(self)} samples, and none at {index} beyond them")


def random_batch(shards: Shards, size: int, input_hw: tuple[int, int], rng: np.random.Generator) -> Batch:
    """Return a batch of random samples, each framed and coloured at random."""
    return _batch(
        [
            augmented(shards.sample(int(index)), input_hw, rng)
            for index in rng.integers(len(shards), size=size)
        ]
    )


def plain_batch(shards: Shards, indices: range, input_hw: tuple[int, int]) -> Batch:
    """Return samples as they are, stretched to the input size."""
    return _batch(
        [_framed(sample, _stretch(sample, input_hw), input_hw) for sample in map(shards.sample, indices)]
    )


def augmented(
    sample: dict[str, NDArray[np.generic]], input_hw: tuple[int, int], rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    """Frame a sample as whole images or as person crops come, mirror half of them, and change the colours."""
    matrix = _person_crop(sample, input_hw, rng) if rng.random() < 0.5 else _zoom(sample, input_hw, rng)
    framed = _framed(sample, matrix, input_hw)
    if rng.random() < 0.5:
        framed = mirrored(framed)
    image = framed["image"].astype(np.float32)
    image = image * rng.uniform(0.75, 1.25) * rng.uniform(0.88, 1.12, 3) + rng.uniform(-25, 25)
    grey = image.mean(axis=2, keepdims=True)
    framed["image"] = np.clip(grey + (image - grey) * rng.uniform(0.2, 1.4), 0, 255).astype(np.float32)
    return framed


def mirrored(sample: dict[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Swap left and right in the image and in all labels."""
    width = sample["image"].shape[1]
    flipped = {name: array[:, ::-1] for name, array in sample.items() if name != "keypoints"}
    keypoints = sample["keypoints"][_FLIPPED_KEYPOINTS]
    return flipped | {
        "class_map": _FLIPPED_CLASSES[flipped["class_map"]],
        "normals": flipped["normals"] * np.array([-1, 1, 1], np.int8),
        "keypoints": np.stack([width - 1 - keypoints[:, 0], keypoints[:, 1]], axis=1),
    }


def _stretch(sample: dict[str, NDArray[np.generic]], input_hw: tuple[int, int]) -> NDArray[np.float64]:
    height, width = sample["image"].shape[:2]
    return _region((0, 0, width, height), input_hw)


def _zoom(
    sample: dict[str, NDArray[np.generic]], input_hw: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    height, width = sample["image"].shape[:2]
    rows, columns = np.array([height, width]) * rng.uniform(0.6, 1.0) * rng.uniform(0.85, 1.0, 2)
    left, top = rng.uniform(0, 1, 2) * (width - columns, height - rows)
    return _region((left, top, left + columns, top + rows), input_hw)


def _person_crop(
    sample: dict[str, NDArray[np.generic]], input_hw: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    rows, columns = np.nonzero(sample["class_map"])
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float64)
    center, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    center = center + rng.normal(0, 0.04, 2) * size
    size = size * _BOX_PADDING * rng.uniform(0.8, 1.2)
    aspect = input_hw[1] / input_hw[0]
    width = max(size[0], size[1] * aspect)
    half = np.array([width, width / aspect]) / 2
    return _region((*(center - half), *(center + half)), input_hw)


def _region(bbox: tuple[float, ...], input_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Return (2, 3) the map of pixel centres in `bbox`, xyxy of pixel corners, to those of the input."""
    left, top, right, bottom = bbox
    scale_x, scale_y = input_hw[1] / (right - left), input_hw[0] / (bottom - top)
    return np.array(
        [
            [scale_x, 0, (0.5 - left) * scale_x - 0.5],
            [0, scale_y, (0.5 - top) * scale_y - 0.5],
        ]
    )


def _framed(
    sample: dict[str, NDArray[np.generic]], matrix: NDArray[np.float64], input_hw: tuple[int, int]
) -> dict[str, NDArray[np.generic]]:
    def warped(array: NDArray[np.generic], interpolation: int) -> NDArray[np.generic]:
        return cv2.warpAffine(array, matrix, input_hw[::-1], flags=interpolation)

    corners_of_pixels = sample["keypoints"] - 0.5
    return {
        "image": warped(sample["image"], cv2.INTER_LINEAR),
        "class_map": warped(sample["class_map"], cv2.INTER_NEAREST),
        "normals": warped(sample["normals"], cv2.INTER_NEAREST),
        "depth": warped(sample["depth"].astype(np.float32), cv2.INTER_NEAREST),
        "keypoints": corners_of_pixels * matrix[[0, 1], [0, 1]] + matrix[:, 2],
    }


def relative_depth(depth: NDArray[np.float32], is_person: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (H, W) float32 depth without unit: on the person median 0, mean deviation 1; `FAR` outside."""
    inside = depth[is_person]
    if not inside.size:
        return np.full_like(depth, FAR)
    centered = depth - np.median(inside)
    scaled = np.clip(centered / (np.abs(centered[is_person]).mean() + 1e-3), -_LARGEST, _LARGEST)
    return np.where(is_person, scaled, FAR).astype(np.float32)


def _batch(samples: list[dict[str, NDArray[np.generic]]]) -> Batch:
    def stacked(name: str) -> NDArray[np.generic]:
        return np.stack([sample[name] for sample in samples])

    classes = stacked("class_map")
    is_person = classes > 0
    normals = np.where(is_person[..., None], stacked("normals"), np.array([0, 0, 127], np.int8))
    depth = np.stack(
        [relative_depth(one, inside) for one, inside in zip(stacked("depth"), is_person, strict=True)]
    )
    return Batch(
        images=torch.from_numpy(stacked("image").astype(np.float32)).permute(0, 3, 1, 2),
        classes=torch.from_numpy(classes.astype(np.int64)),
        normals=torch.from_numpy(normals.astype(np.float32) / 127).permute(0, 3, 1, 2),
        depth=torch.from_numpy(depth),
        keypoints=torch.from_numpy(stacked("keypoints").astype(np.float32)),
    )
