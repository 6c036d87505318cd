"""Shards of rendered people to batches: random framing and colours, and labels in the networks' own terms."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from sapiens_core.labels import class_set, keypoint_set
from sapiens_core.prepare.geometry import person_crops, udp_matrices
from training.images import region_matrix
from training.sample import Sample, stacked

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

# The background's depth, in mean deviations of the person's from its median. Were it farther, a pixel of a
# wrong outline would cost more than all else that is wrong with depth.
FAR = 2.0
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

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class Shards:
    """All samples of a folder, in memory, in the order of the shards' names.

    Args:
        folder: Where `training.render` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._files: list[dict[str, NDArray[Any]]] = []
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as arrays:
                self._files.append(dict(arrays))

    def __len__(self) -> int:
        return sum(len(file["image"]) for file in self._files)

    def sample(self, index: int) -> Sample:
        """Return one sample, as rendered."""
        for file in self._files:
            if index < len(file["image"]):
                return Sample(**{name: array[index] for name, array in file.items()})
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


def augmented(sample: Sample, input_hw: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Frame a sample as whole images or as person crops come, mirror half of them, and change the colours."""
    matrix = _person_crop(sample, input_hw, rng) if rng.random() < 0.5 else _zoom(sample, input_hw, rng)
    framed = _framed(sample, matrix, input_hw)
    if rng.random() < 0.5:
        framed = mirrored(framed)
    gains, shift = rng.uniform(0.75, 1.25) * rng.uniform(0.88, 1.12, 3), rng.uniform(-25, 25)
    saturation = rng.uniform(0.2, 1.4)
    mixed = (saturation * np.eye(3) + (1 - saturation) / 3) * gains
    recoloured = cv2.transform(framed.image, np.concatenate([mixed, np.full((3, 1), shift)], axis=1))
    return replace(framed, image=recoloured)  # type: ignore[arg-type]


def mirrored(sample: Sample) -> Sample:
    """Swap left and right in the image and in all labels of a framed sample."""
    keypoints = sample.keypoints[_FLIPPED_KEYPOINTS]
    return Sample(
        image=sample.image[:, ::-1],
        class_map=_FLIPPED_CLASSES[sample.class_map[:, ::-1]],
        normals=sample.normals[:, ::-1] * np.array([-1, 1, 1], np.int8),
        depth=sample.depth[:, ::-1],
        keypoints=np.stack([sample.image.shape[1] - 1 - keypoints[:, 0], keypoints[:, 1]], axis=1),
    )


def _stretch(sample: Sample, input_hw: tuple[int, int]) -> NDArray[np.float64]:
    height, width = sample.image.shape[:2]
    return region_matrix((0, 0, width, height), input_hw)


def _zoom(sample: Sample, input_hw: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    height, width = sample.image.shape[:2]
    rows, columns = np.array([height, width]) * rng.uniform(0.6, 1.0) * rng.uniform(0.85, 1.0, 2)
    left, top = rng.uniform(0, 1, 2) * (width - columns, height - rows)
    return region_matrix((left, top, left + columns, top + rows), input_hw)


def _person_crop(sample: Sample, input_hw: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    left, top, columns, rows = cv2.boundingRect(sample.class_map)
    bbox = np.array([left, top, left + columns, top + rows], np.float32)
    crop = person_crops(bbox[None], input_hw)
    crop[:, :2] += rng.normal(0, 0.04, 2) * (bbox[2:] - bbox[:2])
    crop[:, 2:] *= rng.uniform(0.8, 1.2)
    return udp_matrices(crop, input_hw)[0]


def _framed(
    sample: Sample, matrix: NDArray[np.float32] | NDArray[np.float64], input_hw: tuple[int, int]
) -> Sample:
    def warped(array: NDArray[Any], interpolation: int) -> NDArray[Any]:
        return cv2.warpAffine(array, matrix, input_hw[::-1], flags=interpolation)

    from_first_pixel = sample.keypoints - np.float32(0.5)
    return Sample(
        image=warped(sample.image, cv2.INTER_LINEAR),
        class_map=warped(sample.class_map, cv2.INTER_NEAREST),
        normals=warped(sample.normals, cv2.INTER_NEAREST),
        depth=warped(sample.depth.view(np.int16), cv2.INTER_NEAREST).view(np.float16).astype(np.float32),
        keypoints=(from_first_pixel * matrix[[0, 1], [0, 1]] + matrix[:, 2]).astype(np.float32),
    )


def relative_depth(depth: NDArray[np.float32], is_person: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (H, W) float32 depth without unit: on the person median 0, mean deviation 1; `FAR` outside."""
    inside = depth[is_person]
    if not inside.size:
        return np.full_like(depth, FAR)
    centered = depth - np.median(inside)
    scaled = centered / (np.abs(centered[is_person]).mean() + 1e-3)
    return np.where(is_person, scaled, FAR).astype(np.float32)


def _batch(samples: list[Sample]) -> Batch:
    arrays = stacked(samples)
    classes, is_person = arrays["class_map"].astype(np.int64), arrays["class_map"] > 0
    normals = np.where(is_person[..., None], arrays["normals"], np.array([0, 0, 127], np.int8))
    depth = [relative_depth(one, inside) for one, inside in zip(arrays["depth"], is_person, strict=True)]
    return Batch(
        images=torch.from_numpy(arrays["image"]).permute(0, 3, 1, 2).float(),
        classes=torch.from_numpy(classes),
        normals=torch.from_numpy(normals.astype(np.float32) / 127).permute(0, 3, 1, 2),
        depth=torch.from_numpy(np.stack(depth)),
        keypoints=torch.from_numpy(arrays["keypoints"]),
    )
