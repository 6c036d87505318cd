"""Results that are one array per image: normals, classes, features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sapiens_client.results.base import Result, drawn, full, given_mask, pixels_hw
from sapiens_client.results.coco import CocoSegmentation, Rle, class_rles
from sapiens_client.results.interop import supervision_masks
from sapiens_client.results.labels import classes_of, index_of
from sapiens_client.results.saving import (
    COCO,
    ONE_ARRAY,
    Format,
    ImageId,
    Writer,
    checked_image_id,
    write_exr,
    write_ids,
)
from sapiens_core.recipes.recipe import PATCH_SIZE

if TYPE_CHECKING:
    import supervision
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sapiens_core.labels import ClassSet, Color


@dataclass(frozen=True, eq=False, kw_only=True)
class NormalResult(Result):
    """Surface normal of every pixel.

    Its array is read-only and may be an unaligned view of the reply; `.copy()` gives an aligned writable one.

    Attributes:
        normals: (H, W, 3) float32, unit vectors x, y, z in the frame of the network's training data, which
            need not be that of `DepthResult.normal_from_depth`.
        foreground: (H, W) bool, where a person is; None: not known. `analyze` tells it where it was asked for
            classes too.
    """

    normals: NDArray[np.float32] = field(repr=False)
    foreground: NDArray[np.bool_] | None = field(default=None, repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = MappingProxyType(
        {
            **ONE_ARRAY,
            Format.EXR: lambda result, path, _: write_exr(
                dict(zip("RGB", np.moveaxis(result.normals, 2, 0), strict=True)), path
            ),
        }
    )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        return pixels_hw(self.normals)

    def plot(self, foreground: NDArray[np.bool_] | None = None) -> Image:
        """Draw x, y and z as red, green and blue, like the reference.

        Args:
            foreground: (H, W) bool; the rest is black. None: that of the result, or all.

        Raises:
            InvalidInputError: `foreground` has another shape than the image.
        """
        from sapiens_core.pictures import normal_picture

        return drawn(normal_picture, full(self.normals), given_mask(foreground, self.foreground))


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationResult(Result):
    """Class of every pixel.

    Its array is read-only and may be an unaligned view of the reply; `.copy()` gives an aligned writable one.

    Attributes:
        class_map: (H, W) uint8 class ids, which index `classes`.
    """

    class_map: NDArray[np.uint8] = field(repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = MappingProxyType(
        {**ONE_ARRAY, Format.IDS: lambda result, path, _: write_ids(result.class_map, path), **COCO}
    )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        return pixels_hw(self.class_map)

    @property
    def class_set(self) -> ClassSet:
        """Names, colours and background of the network's classes."""
        return classes_of(self.model)

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of every class, in the order of the ids. Without labels: the numbers 0 to 255."""
        return self.class_set.names

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of every class, as `classes`."""
        return self.classes

    @property
    def legend(self) -> Mapping[str, Color]:
        """RGB of every class in the picture by its name, 0..255; half of it is seen over the image."""
        known = self.class_set
        return {known.names[each]: known.palette[each] for each in np.unique(self.class_map).tolist()}

    @property
    def foreground(self) -> NDArray[np.bool_]:
        """(H, W) bool: what is part of a person."""
        return np.not_equal(self.class_map, self.class_set.background)

    def mask(self, *classes: str | int) -> NDArray[np.bool_]:
        """Find the pixels of some classes.

        Args:
            classes: Names as in `classes`, or ids.

        Returns:
            (H, W) bool, true where a pixel is of any of them.

        Raises:
            InvalidInputError: The network has no such class.
        """
        is_wanted = np.zeros(256, dtype=bool)
        for each in classes:
            is_wanted[index_of(each, self.classes, "class")] = True
        mask: NDArray[np.bool_] = is_wanted[self.class_map]
        return mask

    def to_supervision(self) -> supervision.Detections:
        """Return one detection with a mask per class in the image, without the background.

        Raises:
            ImportError: supervision is not installed.
        """
        class_ids = [each for each in np.unique(self.class_map).tolist() if each != self.class_set.background]
        return supervision_masks(self.class_map, class_ids, self.classes)

    def to_rle(self) -> dict[int, Rle]:
        """Encode the masks as COCO's compressed run lengths.

        Returns:
            Ids of the classes in the image, the background's too, each to the run lengths of its pixels.
        """
        return class_rles(self.class_map)

    def to_coco(self, *, image_id: ImageId) -> list[CocoSegmentation]:
        """Return one COCO segmentation result per class in the image; categories are class ids.

        Args:
            image_id: What COCO calls the image.

        Raises:
            InvalidInputError: The image is called by neither a whole number nor a name.
        """
        image_id = checked_image_id(image_id)
        return [
            CocoSegmentation(image_id=image_id, category_id=class_id, segmentation=rle, score=1.0)
            for class_id, rle in self.to_rle().items()
            if class_id != self.class_set.background
        ]

    def plot(self) -> Image:
        """Draw the reference's colours of the classes over the image, half and half."""
        from sapiens_core.pictures import class_picture

        return drawn(class_picture, self.image, self.class_map, self.class_set.palette)


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureResult(Result):
    """Features of a pretrained backbone.

    Its array is read-only and may be an unaligned view of the reply; `.copy()` gives an aligned writable one.

    Attributes:
        features: (C, h, w) float32, one vector per token of the network: 16 x 16 pixels of its input, or
            64 x 64 of the second family's 1b-4k.
    """

    features: NDArray[np.float32] = field(repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = ONE_ARRAY

    def plot(self) -> Image:
        """Draw the three principal components as red, green and blue, each vector as 16 x 16 pixels."""
        height, width = self.features.shape[1:]
        patches = drawn(_principal_colors, self.features)
        return patches.resize((width * PATCH_SIZE, height * PATCH_SIZE), resample=0)  # 0: the nearest


def _principal_colors(features: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Project (C, h, w) on its first three principal components, each stretched over 0..255: (h, w, 3)."""
    vectors = features.reshape(len(features), -1).T
    vectors = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    axes = axes[:, :-4:-1]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), range(axes.shape[1])])  # else the sign is arbitrary
    values = vectors @ axes
    values -= values.min(axis=0)
    largest = values.max(axis=0)
    values *= 255 / np.where(largest > 0, largest, 1)  # features may be constant
    colors = np.zeros((len(values), 3), dtype=np.uint8)
    colors[:, : values.shape[1]] = values
    return colors.reshape(*features.shape[1:], 3)
