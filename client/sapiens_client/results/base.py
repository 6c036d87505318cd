"""What all results share: where they come from, how to look at them and how to keep them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, Self, TypedDict

import numpy as np

from sapiens_client.errors import InvalidInputError
from sapiens_client.results.saving import SEVERAL_ARRAYS, Format, ImageId, Writer, format_of, png, read_npz
from sapiens_client.results.showing import page, reduced
from sapiens_core.contract.model_info import ModelInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sapiens_core.labels import Color

P = ParamSpec("P")


@dataclass(frozen=True)
class Timing:
    """Where the time of a call went, and what travelled.

    Attributes:
        total_s: The whole call, with the requests about the models that the first call makes. [s]
        prepare_s: From the image as passed to the bytes of an image file. [s]
        request_s: From sending these bytes to having the result's arrays, in all requests of the call. [s]
        request_bytes: Size of the requests.
        response_bytes: Size of the replies.
        attempts: How often requests for inference were sent; more than there were requests after failures.
        finish_s: From the network's own, smaller arrays to those of the image's size, where this is done
            here and not by the server: see `ClientOptions.output`. [s]
        shared_bytes: Size of the tensors that went through shared memory instead of requests and replies.
    """

    total_s: float
    prepare_s: float
    request_s: float
    request_bytes: int
    response_bytes: int
    attempts: int = 1
    finish_s: float = 0.0
    shared_bytes: int = 0


class Origin(TypedDict):
    """The fields that every result has, see `Result`."""

    model: ModelInfo
    timing: Timing
    encoded_image: NDArray[np.uint8]
    url: str
    request_id: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(ABC):
    """What the client's methods return.

    A result keeps the image it belongs to as it travelled, so that `plot` can draw over it. Who collects many
    results may want to keep their arrays only. Floats as large as the image are float32, as annotated; those
    of a call with `dtype="float16"` are float16.

    Attributes:
        model: Origin and kind of the network; `model.untrained` says that the result means nothing.
        timing: Where the time went.
        encoded_image: (B,) uint8, the bytes of the image file that was sent; empty: `load` was not told it.
        url: Address of the server that answered, the last one of a call that needed several requests.
        request_id: What that server's log calls the request; empty: there was none, as about no boxes.
        writers: The formats that `save` offers, and what writes them.
        beside: Names of the arrays that are not the network's.
    """

    model: ModelInfo
    timing: Timing
    encoded_image: NDArray[np.uint8] = field(repr=False)
    url: str = ""
    request_id: str = ""

    writers: ClassVar[Mapping[Format, Writer]] = SEVERAL_ARRAYS
    beside: ClassVar[frozenset[str]] = frozenset({"encoded_image", "foreground"})

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright, read-only: the image, decoded when first asked for and then kept."""
        from sapiens_core.images.codec import decode_bgr

        if not self.encoded_image.size:
            raise InvalidInputError(
                "the result must know its image for this, got none: it was loaded; pass load(..., image=...)"
            )
        try:
            pixels = np.ascontiguousarray(decode_bgr(self.encoded_image)[:, :, ::-1])
        except ValueError as error:
            raise InvalidInputError(str(error)) from error
        pixels.flags.writeable = False
        return pixels

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the image, upright, in pixels."""
        height, width, _ = self.image.shape
        return height, width

    @abstractmethod
    def plot(self) -> Image:
        """Draw the result as the reference does."""

    def show(self) -> None:
        """Open the picture that `plot` draws in the viewer of this machine, as PIL images do."""
        self.plot().show()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the keypoints or classes, in the order of the network's; empty where there are none."""
        return ()

    @property
    def legend(self) -> Mapping[str, Color]:
        """RGB of everything named that `plot` draws, 0..255; empty where its colours are no names."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return what the arrays are, as plain data for JSON: `*.npz` keeps it under the name "facts"."""
        return {
            "result": type(self).__name__,
            "model": asdict(self.model),
            "labels": self.labels,
            "timing": asdict(self.timing),
            "url": self.url,
            "request_id": self.request_id,
        }

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, image: bytes | str | os.PathLike[str] | None = None
    ) -> Self:
        """Read back what `save` wrote as `*.npz`: `Result.load` any result, `PoseResult.load` poses only.

        Args:
            path: The file.
            image: The image file, or its bytes, which results that draw over it need. It is not in the
                `*.npz`, and neither is the mask of the foreground.

        Raises:
            InvalidInputError: The file holds another kind of result, or was not written by `save`.
            OSError: A file cannot be read.
        """
        arrays, facts = read_npz(Path(path))
        content = b"" if image is None else image if isinstance(image, bytes) else Path(image).read_bytes()
        kind = {each.__name__: each for each in Result.__subclasses__()}.get(facts.get("result", ""))
        if kind is None or not issubclass(kind, cls):
            raise InvalidInputError(
                f"{str(path)!r} must hold a {cls.__name__}, got {facts.get('result')!r:.80}; load it as that"
            )
        try:
            origin = Origin(
                model=ModelInfo(**facts["model"]),
                timing=Timing(**facts["timing"]),
                encoded_image=np.frombuffer(content, np.uint8),
                url=facts["url"],
                request_id=facts["request_id"],
            )
            return kind(**arrays, **origin, **kind._further_fields(facts))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{str(path)!r} must be as `save` wrote it, got something else: {error!r}"
            ) from error

    @classmethod
    def _further_fields(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that are neither arrays nor an `Origin` from what `facts` told."""
        return {}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the network's arrays by the names of the attributes, which tell the shape of each."""
        values = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name not in self.beside
        }
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return the array, where the result is one.

        Raises:
            InvalidInputError: The result is several arrays.
        """
        arrays = self.arrays()
        if len(arrays) != 1:
            raise InvalidInputError(
                f"a result must be one array to become one, got {', '.join(arrays)}; take the attribute meant"
            )
        (array,) = arrays.values()
        return np.array(array, dtype=dtype) if copy else np.asarray(array, dtype=dtype)

    def save(self, path: str | os.PathLike[str], *, image_id: ImageId = 0) -> tuple[Path, ...]:
        """Write the result to a file whose name says how.

        Args:
            path: `*.png` and `*.jpg` are a picture for people, `*.npz` holds the arrays by name, and
                what they are; `load` reads it back. Depth, normals, class map and features: `*.npy` is the
                array. Depth: `*.16.png` is a 16-bit grey picture, with a `*.16.json` beside it that holds
                `offset` and `scale`: depth = offset + scale * value. Depth and normals: `*.exr` is OpenEXR
                with 32-bit floats, its channels Y, or R, G, B for x, y, z. Class map: `*.ids.png` is an 8-bit
                grey picture whose levels are the classes. Class map, keypoints and detections: `*.json` is a
                list of COCO results. Keypoints: `*.openpose.json` is as OpenPose writes them. Matting:
                `*.cutout.png` is the persons with transparency. Points: see `PointmapResult.save`.
            image_id: What COCO results call the image.

        Returns:
            The files written.

        Raises:
            InvalidInputError: The name ends otherwise, or the depth is not finite and 16 bits cannot hold it.
            OSError: The file cannot be written.
        """
        if not isinstance(path, str | os.PathLike):
            raise InvalidInputError(f"path must be that of a file, got {path!r:.80}")
        path = Path(path)
        return self.writers[format_of(path.name, self.writers)](self, path, image_id)

    def _repr_png_(self) -> bytes | None:
        picture = self._shown()
        return png(picture) if picture else None

    def _repr_html_(self) -> str | None:
        picture = self._shown()
        return page(picture, self.legend) if picture and self.legend else None

    def _shown(self) -> Image | None:
        """Return the picture for a notebook; None, for which it shows the text: the image is not known."""
        try:
            return reduced(self.plot())
        except InvalidInputError:
            return None


def drawn(draw: Callable[P, NDArray[np.uint8]], *args: P.args, **options: P.kwargs) -> Image:
    """Return the picture that a function of `sapiens_core.pictures` draws.

    Args:
        draw: Returns (H, W, 3) uint8 RGB.
        args: What it draws.
        options: How.

    Raises:
        InvalidInputError: The function refuses its arguments.
    """
    import PIL.Image

    try:
        return PIL.Image.fromarray(draw(*args, **options))
    except ValueError as error:
        raise InvalidInputError(str(error)) from error


def given_mask(
    given: NDArray[np.bool_] | None, known: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_] | None:
    """Return the (H, W) mask that the caller gives, else that which is known, if any.

    Raises:
        InvalidInputError: It is no array.
    """
    try:
        return known if given is None else np.asarray(given, dtype=bool)
    except ValueError as error:
        raise InvalidInputError(f"foreground must be an (H, W) array, got {given!r:.80}: {error}") from error


def full(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return floats of any shape as float32, in which everything is computed; what is that stays as it is."""
    return np.asarray(values, np.float32)


def pixels_hw(pixels: NDArray[Any]) -> tuple[int, int]:
    """Return the height and width of (H, W) or (H, W, C)."""
    height, width = pixels.shape[:2]
    return height, width
