"""The client: one method per task."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, Unpack, overload

from sapiens_client.analysis import Analysis, analyze, checked_tasks
from sapiens_client.bulk_tasks import MapOptions, task_items
from sapiens_client.deadline import Deadline
from sapiens_client.questions import dense_result, detection_result, people_result, pose_result
from sapiens_client.results_dense import DepthResult, FeatureResult, NormalResult, SegmentationResult
from sapiens_client.session import Call, Session, Upload
from sapiens_core.tasks import HUMAN_TASKS, Task

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from sapiens_client.bulk_items import Item
    from sapiens_client.images import ImageLike
    from sapiens_client.results import Result
    from sapiens_client.results_people import DetectionResult, PoseResult

R = TypeVar("R")

Images: TypeAlias = "Iterable[ImageLike]"
Items: TypeAlias = "Generator[Item[R], None, None]"

DEFAULT_URL = "localhost:8001"


class SapiensClient:
    """A client of one server; any number of threads may share it.

    What the server's models are is asked for once and kept until the server is found absent: take a new
    client after it got others while nobody called.

    Args:
        url: `host:port` of the server's gRPC service, or another gRPC target such as `dns:///host:port`;
            reached without any HTTP proxy. None: what SAPIENS_URL says, else localhost:8001.
        timeout_s: How long each call may take, unless it says otherwise. [s]

    Raises:
        InvalidInputError: The URL is no address or of another protocol, or the timeout is not positive.

    Example:
        >>> with SapiensClient("gpu-1:8001") as client:
        ...     client.depth("photo.jpg").save("depth.png")
    """

    def __init__(self, url: str | None = None, *, timeout_s: float = 60.0) -> None:
        Deadline.after(timeout_s)  # refuses a bad timeout now, not at the first call
        if url is None:
            url = os.environ.get("SAPIENS_URL") or DEFAULT_URL
        self._timeout_s = timeout_s
        self._session = Session(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way and later ones end with a ClientClosedError."""
        self._session.close()

    def ready(self, *, timeout_s: float = 5.0) -> bool:
        """Return whether the server answers and all its models are loaded; False when there is no server.

        Args:
            timeout_s: How long to wait for the answer. [s]
        """
        return self._session.is_ready(Deadline.after(timeout_s))

    def depth(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> DepthResult:
        """Estimate the relative depth of every pixel.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            model: Another ensemble for the task on the server, e.g. "depth_2b". None: "depth".
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            The depth at the size of the image, larger is farther.

        Raises:
            InvalidInputError: The image cannot be used; the server's reason, if it was the one to find out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve depth, or not by that model.
            InferenceError: The server failed to compute the answer.
        """
        return dense_result(self._call(image, timeout_s), Task.DEPTH, DepthResult, model)

    def normal(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> NormalResult:
        """Estimate the surface normal of every pixel.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            model: Another ensemble for the task on the server, e.g. "normal_2b". None: "normal".
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            Unit vectors at the size of the image.

        Raises:
            InvalidInputError: The image cannot be used; the server's reason, if it was the one to find out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve normal, or not by that model.
            InferenceError: The server failed to compute the answer.
        """
        return dense_result(self._call(image, timeout_s), Task.NORMAL, NormalResult, model)

    def seg(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> SegmentationResult:
        """Find the body part or garment that every pixel belongs to.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            model: Another ensemble for the task on the server, e.g. "seg_2b". None: "seg".
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            Class ids at the size of the image, with masks by the names of the classes.

        Raises:
            InvalidInputError: The image cannot be used; the server's reason, if it was the one to find out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve segmentation, or not by that model.
            InferenceError: The server failed to compute the answer.
        """
        return dense_result(self._call(image, timeout_s), Task.SEG, SegmentationResult, model)

    def features(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> FeatureResult:
        """Compute the features of the pretrained backbone.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            model: Another ensemble for the task on the server, e.g. "features_2b". None: "features".
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            One vector per patch of the network's input, to which the image is stretched.

        Raises:
            InvalidInputError: The image cannot be used; the server's reason, if it was the one to find out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve features, or not by that model.
            InferenceError: The server failed to compute the answer.
        """
        return dense_result(self._call(image, timeout_s), Task.FEATURES, FeatureResult, model)

    def pose(
        self,
        image: ImageLike,
        bboxes: ArrayLike | None = None,
        *,
        model: str | None = None,
        timeout_s: float | None = None,
    ) -> PoseResult:
        """Find the keypoints of persons whose boxes are known.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            bboxes: (N, 4) numbers, xyxy, image pixels; may reach beyond the image. More than the server takes
                at a time are split over several requests, one after another. None: the whole image is one
                person; an empty list: there is nobody, and nothing to ask.
            model: Another ensemble for the task on the server, e.g. "pose_2b". None: "pose".
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            One person per box, in the order of the boxes.

        Raises:
            InvalidInputError: The image or a box cannot be used; the server's reason, if it found out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve pose, or not by that model.
            InferenceError: The server failed to compute the answer.
        """
        return pose_result(self._call(image, timeout_s), bboxes, model)

    def detect(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> DetectionResult:
        """Find the boxes of the persons in an image.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            model: Another ensemble for the task on the server, e.g. "detect_2b". None: "detect".
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            Boxes with scores; none where nobody is found.

        Raises:
            InvalidInputError: The image cannot be used; the server's reason, if it was the one to find out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve detection, or not by that model.
            InferenceError: The server failed to compute the answer.
        """
        return detection_result(self._call(image, timeout_s), model)

    def people(
        self, image: ImageLike, *, whole_image_if_nobody: bool = False, timeout_s: float | None = None
    ) -> PoseResult:
        """Find the persons in an image, and their keypoints.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            whole_image_if_nobody: Take the whole image for a person where nobody is found, as the reference
                does; its box has score 0.
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            One person per box that the server's detector finds; none where it finds nobody.

        Raises:
            InvalidInputError: The image cannot be used; the server's reason, if it was the one to find out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve detection and pose together.
            InferenceError: The server failed to compute the answer.
        """
        call = self._call(image, timeout_s)
        return people_result(call, whole_image_if_nobody=whole_image_if_nobody)

    def analyze(
        self,
        image: ImageLike,
        tasks: Iterable[str] = tuple(map(str, HUMAN_TASKS)),
        *,
        timeout_s: float | None = None,
    ) -> Analysis:
        """Ask for several tasks at the same time.

        The image is read and encoded once. Depth, normals and segmentation also travel and are resized once,
        where the server has the ensemble `human`; each of the other tasks is a request of its own.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            tasks: Names of methods: "depth", "normal", "seg", "pose" (the whole image as one person),
                "features", "detect", "people".
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            The result of every task, or the SapiensError that it raised: a task that fails does not take the
            others with it. `analysis.depth` is the result of `depth`, or raises its error.

        Raises:
            InvalidInputError: There is no such task, or the image is none.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
        """
        chosen = checked_tasks(tasks)
        return analyze(self._session, self._upload(image, timeout_s), chosen)

    @overload
    def map(
        self, task: Literal["depth"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[DepthResult]: ...
    @overload
    def map(
        self, task: Literal["normal"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[NormalResult]: ...
    @overload
    def map(
        self, task: Literal["seg"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[SegmentationResult]: ...
    @overload
    def map(
        self, task: Literal["features"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[FeatureResult]: ...
    @overload
    def map(
        self, task: Literal["detect"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[DetectionResult]: ...
    @overload
    def map(
        self, task: Literal["pose", "people"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[PoseResult]: ...
    @overload
    def map(self, task: str, images: Images, **options: Unpack[MapOptions]) -> Items[Result]: ...
    def map(self, task: str, images: Images, **options: Unpack[MapOptions]) -> Items[Any]:
        """Ask about many images, several at a time.

        Images are read when it is their turn, and no more results are kept than stated under `concurrency`.
        Closing the iterator, or leaving the loop over it, stops everything without waiting.

        Args:
            task: Name of the method to ask with. `pose` takes the whole images as persons.
            images: As the methods take them; may be a generator, which is closed in the end.
            options: `concurrency=8`: how many to ask about at a time; at most twice as many are under way or
                kept. `ordered=True`: items come in the order of the images, else as they are ready.
                `on_error="raise"`: the first error ends everything; "yield": it stands in its item.
                `progress=False`: whether to draw a bar on a terminal. `model=None`, `timeout_s=None`: as for
                the methods, for every image.

        Returns:
            One item per image: `item.index`, `item.image` (its path), `item.result`, `item.error`.

        Raises:
            InvalidInputError: There is no such task, or an option cannot be used.

        Example:
            >>> for item in client.map("seg", Path("photos").glob("*.jpg"), progress=True):
            ...     item.result.save(f"out/{item.index}.ids.png")
        """
        return task_items(self, task, images, **options)

    def _call(self, image: ImageLike, timeout_s: float | None) -> Call:
        return Call(self._session, self._upload(image, timeout_s))

    def _upload(self, image: ImageLike, timeout_s: float | None) -> Upload:
        return Upload.of(image, self._timeout_s if timeout_s is None else timeout_s)
