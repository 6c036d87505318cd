"""Points in metres, one for every pixel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.base import Result, drawn, full, given_mask, pixels_hw
from sapiens_client.results.glb import glb
from sapiens_client.results.ply import ply
from sapiens_client.results.saving import (
    SEVERAL_ARRAYS,
    Format,
    ImageId,
    Writer,
    format_of,
    write_bytes,
    write_exr,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

SURFACES = MappingProxyType({Format.PLY: ply, Format.GLB: glb})


@dataclass(frozen=True, eq=False, kw_only=True)
class PointmapResult(Result):
    """Where every pixel lies in front of the camera, and the camera itself.

    Its arrays are read-only and may be unaligned views of the reply; `.copy()` gives aligned writable ones.

    Attributes:
        points: (H, W, 3) float32, metres, in the frame of the camera: x to the right of the image, y down, z
            away from the camera.
        valid: (H, W) bool, where a point is finite and at a distance that can be.
        focal_length: (1,) float32, see `focal_px`.
        intrinsics: (3, 3) float32, the camera: focal length and center in pixels of the image, whose centers
            are whole numbers, as in OpenCV.
        scale: (1,) float32, the network's second output, by which its points were divided; None: the points
            come from a depth.
        foreground: (H, W) bool, where a person is; None: not known. `analyze` tells it where it was asked for
            classes too.
    """

    points: NDArray[np.float32] = field(repr=False)
    valid: NDArray[np.bool_] = field(repr=False)
    focal_length: NDArray[np.float32] = field(repr=False)
    intrinsics: NDArray[np.float32] = field(repr=False)
    scale: NDArray[np.float32] | None = field(default=None, repr=False)
    foreground: NDArray[np.bool_] | None = field(default=None, repr=False)

    writers: ClassVar[Mapping[Format, Writer]] = MappingProxyType(
        {
            **SEVERAL_ARRAYS,
            Format.PLY: lambda result, path, _: write_bytes(result.encoded(Format.PLY), path),
            Format.GLB: lambda result, path, _: write_bytes(result.encoded(Format.GLB), path),
            Format.EXR: lambda result, path, _: write_exr(
                dict(zip("RGB", np.moveaxis(result.points, 2, 0), strict=True)), path
            ),
        }
    )

    def __post_init__(self) -> None:
        """Take the mask as bool, whatever type it travelled as: numbers would be indices."""
        if self.valid.dtype != np.bool_:
            valid = self.valid != 0
            valid.flags.writeable = False
            object.__setattr__(self, "valid", valid)

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        return pixels_hw(self.points)

    @property
    def depth(self) -> NDArray[np.float32]:
        """(H, W) float32, metres along the axis of the camera: z of the points, also where not valid."""
        return self.points[..., 2]

    @property
    def focal_px(self) -> float:
        """Focal length of the camera, as the network sees it, in pixels of the image."""
        return float(self.focal_length[0])

    def plot(self, foreground: NDArray[np.bool_] | None = None) -> Image:
        """Draw inverse depth like the reference: turbo, near is red.

        Args:
            foreground: (H, W) bool; the colours span the depths inside it, the rest is grey. None: that of
                the result, or all. What is not valid is grey, too.

        Raises:
            InvalidInputError: `foreground` has another shape than the image.
        """
        from sapiens_core.pictures import inverse_depth_picture

        return drawn(inverse_depth_picture, full(self.depth), self._chosen(foreground))

    def save(
        self, path: str | os.PathLike[str], *, image_id: ImageId = 0, edge_tolerance: float | None = None
    ) -> tuple[Path, ...]:
        """Write the result to a file whose name says how; see `Result.save` for what all results offer.

        `*.ply` has the points in the frame of the camera, as here. `*.glb` has them with y up and z towards
        the viewer, as glTF wants it. Both hold the valid points, where the result knows it those of the
        foreground, in the colours of the image if it knows that; both are in metres. `*.exr` has x, y, z as
        R, G, B.

        Args:
            path: The file.
            image_id: What COCO results call the image; there are none of points.
            edge_tolerance: For `*.ply` and `*.glb`. None: points. A number: a mesh, which has an edge where
                neighbouring pixels differ in depth by more than this, relative to the nearer one; 0.04 is
                usual, which is 8 cm at 2 m.

        Returns:
            The files written.

        Raises:
            InvalidInputError: The name ends otherwise, there is no valid point or triangle, or the tolerance
                is not above 0 or for another format.
            OSError: The file cannot be written.
        """
        if edge_tolerance is None:
            return super().save(path, image_id=image_id)
        path = Path(path)
        form = format_of(path.name, self.writers)
        if form not in SURFACES:
            raise InvalidInputError(
                f"edge_tolerance is for {' and '.join(form.suffix for form in SURFACES)}, got {path.name!r}"
            )
        return write_bytes(self.encoded(form, edge_tolerance), path)

    def encoded(self, form: Format, edge_tolerance: float | None = None) -> bytes:
        """Return the content of a `*.ply` or `*.glb`, see `save`.

        Args:
            form: Which of the two.
            edge_tolerance: None: points; a number: a mesh.

        Raises:
            InvalidInputError: There is no valid point or triangle, or the tolerance is not above 0.
        """
        from sapiens_core.surfaces.mesh import triangles

        try:
            chosen = self._chosen(None)
            faces = None if edge_tolerance is None else triangles(full(self.depth), chosen, edge_tolerance)
        except (ValueError, TypeError) as error:
            raise InvalidInputError(str(error)) from error
        if not chosen.any() or (faces is not None and not len(faces)):
            raise InvalidInputError(
                f"{form.value} needs {'points' if faces is None else 'triangles'}, got none that are valid"
            )
        colors = self.image[chosen] if self.encoded_image.size else None
        return SURFACES[form](full(self.points[chosen]), colors, faces)

    def _chosen(self, foreground: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        mask = given_mask(foreground, self.foreground)
        if mask is not None and mask.shape != self.valid.shape:
            raise InvalidInputError(
                f"foreground must be {self.valid.shape} like the points, got {mask.shape}; resize it"
            )
        return self.valid if mask is None else self.valid & mask
