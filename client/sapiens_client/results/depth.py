"""Relative depth, and metres where some are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.base import Origin, Result, drawn, full, given_mask, pixels_hw
from sapiens_client.results.pointmap import PointmapResult
from sapiens_client.results.saving import ONE_ARRAY, Format, Writer, write_exr, write_png16
from sapiens_core.surfaces.alignment import Alignment

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

MetricDepth: TypeAlias = "ArrayLike | DepthResult | PointmapResult"
"""Known distances: (H, W) metres, NaN or 0 where unknown; (N, 3) rows of x, y and metres; a result."""

_METRES = "m"


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthResult(Result):
    """Depth of every pixel: relative, as networks of the first family tell it, or in metres after `align_to`.

    Its array is read-only and may be an unaligned view of the reply; `.copy()` gives an aligned writable one.

    Attributes:
        depth: (H, W) float32, larger is farther; in metres along the axis of the camera, NaN where that is
            not known, if `unit` says so.
        foreground: (H, W) bool, where a person is; None: not known. `analyze` tells it where it was asked for
            classes too.
        unit: "m", or empty: the depth is relative and has none.
        alignment: How the metres were found, and how well they fit; None: the depth is relative.
    """

    depth: NDArray[np.float32] = field(repr=False)
    foreground: NDArray[np.bool_] | None = field(default=None, repr=False)
    unit: str = ""
    alignment: Alignment | None = None

    writers: ClassVar[Mapping[Format, Writer]] = MappingProxyType(
        {
            **ONE_ARRAY,
            Format.PNG16: lambda result, path, _: write_png16(result.depth, path),
            Format.EXR: lambda result, path, _: write_exr({"Y": result.depth}, path),
        }
    )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        return pixels_hw(self.depth)

    def plot(self, foreground: NDArray[np.bool_] | None = None) -> Image:
        """Draw the depth in the colours of the reference: inferno, near is bright.

        Args:
            foreground: (H, W) bool; the colours span the depths inside it, the rest is grey. None: that of
                the result, or all. What has no depth is grey, too.

        Raises:
            InvalidInputError: `foreground` has another shape than the depth.
        """
        from sapiens_core.pictures import depth_picture

        mask = given_mask(foreground, self.foreground)
        if self.unit:
            mask = np.isfinite(self.depth) & (True if mask is None else mask)
        return drawn(depth_picture, full(self.depth), mask)

    def normal_from_depth(self, foreground: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Estimate the surface's normals from the slope of the depth.

        Depth is relative: in which direction a surface leans is meaningful, by how much is not.

        Args:
            foreground: (H, W) bool; the rest of the image, whose depth means nothing, is left out. None: all.

        Returns:
            (H, W, 3) float32, unit vectors x (right), y (down), z (away from the camera), which point towards
            the camera; NaN where the 7x7 pixels around are not all foreground.

        Raises:
            InvalidInputError: `foreground` has another shape than the depth.
        """
        from sapiens_core.finish.depth import normals_from_depth

        try:
            return normals_from_depth(full(self.depth), given_mask(foreground))
        except ValueError as error:
            raise InvalidInputError(str(error)) from error

    def align_to(self, metric: MetricDepth, *, foreground: NDArray[np.bool_] | None = None) -> DepthResult:
        """Turn relative depth into metres by some that are known, of which outliers do not count.

        Inverse metres are fitted by a scale and a shift of the depth, as the authors of Sapiens advise.

        Args:
            metric: (H, W) metres along the axis of the camera, such as a sensor or another network tells
                them, NaN or 0 where they are not known; (N, 3) rows of x and y, image pixels, and metres; or
                a `PointmapResult`, or a `DepthResult` in metres, of the same image.
            foreground: (H, W) bool; known metres outside do not count, since the network was trained on
                persons alone. None: that of the result, or all.

        Returns:
            The depth in metres, `unit` "m"; `alignment` says how well it fits.

        Raises:
            InvalidInputError: Shapes do not fit the image, or fewer than two different depths are known.

        Example:
            >>> client.depth("photo.jpg").align_to([[410, 220, 1.9], [455, 700, 2.3], [300, 90, 2.1]])
        """
        from sapiens_core.surfaces.alignment import alignment, metric_depth

        rows, columns, metres = _known(metric, self.image_hw)
        if (mask := given_mask(foreground, self.foreground)) is not None:
            if mask.shape != self.image_hw:
                raise InvalidInputError(f"foreground must be {self.image_hw} like depth, got {mask.shape}")
            is_inside = mask[rows, columns]
            rows, columns, metres = rows[is_inside], columns[is_inside], metres[is_inside]
        try:
            aligned = alignment(full(self.depth)[rows, columns], metres)
        except ValueError as error:
            raise InvalidInputError(str(error)) from error
        depth = metric_depth(full(self.depth), aligned)
        depth.flags.writeable = False
        return replace(self, depth=depth, unit=_METRES, alignment=aligned)

    def to_points(self, intrinsics: ArrayLike) -> PointmapResult:
        """Turn depth in metres into points, which can be saved as `*.ply` and `*.glb`.

        Args:
            intrinsics: (3, 3), the camera: focal lengths and center in pixels of the image, whose centers
                are whole numbers, as in OpenCV.

        Returns:
            Points where the depth is known.

        Raises:
            InvalidInputError: The depth is relative, see `align_to`, or the intrinsics are no camera's.
        """
        if self.unit != _METRES:
            raise InvalidInputError(
                "depth must be in metres to become points, got relative depth; call `align_to` first"
            )
        from sapiens_core.surfaces.camera import unprojected

        try:
            camera = np.array(intrinsics, dtype=np.float64)
            points = unprojected(full(self.depth), camera)
        except (ValueError, TypeError) as error:
            raise InvalidInputError(str(error)) from error
        origin = Origin(
            model=self.model,
            timing=self.timing,
            encoded_image=self.encoded_image,
            url=self.url,
            request_id=self.request_id,
        )
        return PointmapResult(
            points=points,
            valid=np.isfinite(self.depth),
            intrinsics=camera.astype(np.float32),
            focal_length=camera[:1, 0].astype(np.float32),
            foreground=self.foreground,
            **origin,
        )

    def facts(self) -> dict[str, Any]:
        """Return what the array is, see `Result.facts`, with its unit."""
        aligned = None if self.alignment is None else asdict(self.alignment)
        return {**super().facts(), "unit": self.unit, "alignment": aligned}

    @classmethod
    def _further_fields(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        aligned = facts.get("alignment")  # files of earlier releases have neither
        return {"unit": facts.get("unit", ""), "alignment": aligned and Alignment(**aligned)}


def _known(
    metric: MetricDepth, image_hw: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return rows and columns of pixels, and how far away they are, each of shape (N,).

    Raises:
        InvalidInputError: Shapes do not fit the image.
    """
    if isinstance(metric, DepthResult):
        if metric.unit != _METRES:
            raise InvalidInputError("metric must be in metres, got relative depth; call its `align_to` first")
        metric = metric.depth
    elif isinstance(metric, PointmapResult):
        metric = np.where(metric.valid, metric.depth, np.float32(np.nan))
    try:
        values = np.asarray(metric, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"metric must be numbers, got {metric!r:.80}: {error}") from error
    if values.shape == image_hw:
        rows, columns = np.nonzero(np.isfinite(values) & (values > 0))
        return rows, columns, values[rows, columns]
    if values.ndim != 2 or values.shape[1] != 3:
        raise InvalidInputError(
            f"metric must be {image_hw} like the image, or (N, 3) rows of x, y and metres, got shape "
            f"{values.shape}; resize a map to the image"
        )
    places = np.rint(values[:, 1::-1])
    is_inside = ((places >= 0) & (places < image_hw)).all(axis=1)
    if not is_inside.all():
        raise InvalidInputError(
            f"x and y must lie in the image of {image_hw[1]} x {image_hw[0]} pixels, got "
            f"{values[~is_inside, :2][0].tolist()}; count from 0"
        )
    rows, columns = places.astype(np.intp).T
    return rows, columns, values[:, 2]
