"""The client: one method per task."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeVar, Unpack

from sapiens_client.client_base import SyncClient
from sapiens_client.client_maps import MapsImages
from sapiens_client.client_video import WatchesVideos
from sapiens_client.results.dense import FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results.depth import DepthResult
from sapiens_client.results.matting import AlbedoResult, MattingResult
from sapiens_client.results.pointmap import PointmapResult
from sapiens_client.tasks.analyze import Analysis, analyze, checked_tasks
from sapiens_client.tasks.dense import dense_result
from sapiens_client.tasks.people import detection_result, people_result, pose_result
from sapiens_client.tasks.table import TaskName
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from sapiens_client.bulk.items import Item
    from sapiens_client.connection.options import CallOptions
    from sapiens_client.results.base import Result
    from sapiens_client.results.detections import DetectionResult
    from sapiens_client.results.people import PoseResult
    from sapiens_client.tasks.boxes import Boxes
    from sapiens_client.tasks.images import ImageLike

R = TypeVar("R")
T = TypeVar("T")
D = TypeVar("D", bound="Result")

Images: TypeAlias = "Iterable[ImageLike]"
Items: TypeAlias = "Generator[Item[R], None, None]"


class SapiensClient(SyncClient, MapsImages, WatchesVideos):
    """A client of one server, or of several with the same models; any number of threads may share it.

    A request that fails because a server went away, stops, or is full is sent again, to another server where
    there is one, within the deadline of the call; a bad image or a wrong token is not. Each retry is a line
    of the logger `sapiens_client`. What the models are is asked for once and kept until a server is found
    absent: take a new client after the servers got others while nobody called.

    A call without a result raises a SapiensError: InvalidInputError where the image or an option cannot be
    used, ImageReadError (ImageNotFoundError) where a file cannot be read, ServerUnavailableError (TLSError)
    where no server answers, AuthenticationError where it wants another token or header,
    ServerOverloadedError where its queues are full, RequestTimeoutError where the answer did not come in
    time, ModelNotServedError where there is no such model, InferenceError where the server failed to
    compute, and ClientClosedError where the client was closed meanwhile.

    Args:
        url: `host:port` of the server's gRPC service; several of them, as a sequence or with commas between;
            `dns:///host:port` for all addresses of a name, looked up again every few seconds; or another gRPC
            target such as `unix:/path`. Reached without any HTTP proxy. None: what SAPIENS_URL says, else
            localhost:8001.
        timeout_s: How long each call may take with all its retries, unless it says otherwise. [s]
        tls: True encrypts and trusts public authorities; a TLS(...) names others, or a client certificate.
        token: Sent as "Bearer TOKEN" in the headers `authorization` and `triton-grpc-protocol-authorization`,
            the one for proxies, the other for Triton's `--grpc-restricted-protocol`. A function is asked for
            the token of every request. None: what SAPIENS_TOKEN says, else none is sent.
        headers: Further headers of every request.
        options: The rarer choices: retries, pings, how often names are looked up.

    Raises:
        InvalidInputError: An address is none or of another protocol, the timeout is not positive, a
            certificate cannot be read, or a token or headers would travel to another machine without TLS.

    Example:
        >>> with SapiensClient("gpu-1:8001") as client:
        ...     client.depth("photo.jpg").save("depth.png")
    """

    def depth(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> DepthResult:
        """Estimate the relative depth of every pixel.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "depth_2b". None: "depth".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            Depth at the size of the image, larger is farther.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._dense(Task.DEPTH, DepthResult, image, model, options)

    def normal(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> NormalResult:
        """Estimate the surface normal of every pixel.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "normal_2b". None: "normal".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            Unit vectors at the size of the image.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._dense(Task.NORMAL, NormalResult, image, model, options)

    def seg(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> SegmentationResult:
        """Find the body part or garment that every pixel belongs to.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "seg_2b". None: "seg".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            Class ids at the size of the image, with masks by the names of the classes.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._dense(Task.SEG, SegmentationResult, image, model, options)

    def features(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> FeatureResult:
        """Compute the features of the pretrained backbone.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "features_2b". None: "features".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            One vector per patch of the network's input, to which the image is stretched.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._dense(Task.FEATURES, FeatureResult, image, model, options)

    def pointmap(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> PointmapResult:
        """Estimate where every pixel lies in front of the camera, in metres.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "pointmap_1b". None: "pointmap".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            Points at the size of the image, and the camera that the network supposes.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._dense(Task.POINTMAP, PointmapResult, image, model, options)

    def matting(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> MattingResult:
        """Estimate how much of every pixel belongs to persons, and their colours there.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "matting_1b". None: "matting".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            Alpha and premultiplied foreground at the size of the image.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._dense(Task.MATTING, MattingResult, image, model, options)

    def albedo(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> AlbedoResult:
        """Estimate the colour of every pixel's surface, without light and shadow.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "albedo_1b". None: "albedo".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            Colours at the size of the image.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._dense(Task.ALBEDO, AlbedoResult, image, model, options)

    def pose(
        self,
        image: ImageLike,
        bboxes: Boxes | None = None,
        *,
        model: str | None = None,
        **options: Unpack[CallOptions],
    ) -> PoseResult:
        """Find the keypoints of persons whose boxes are known.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            bboxes: (N, 4) numbers, xyxy, image pixels; may reach beyond the image. (N, 5) with a score and
                (N, 6) with a score and a class will do, (4,) for one box, and what has them as `xyxy`. More
                than the server takes at a time are split over several requests, one after another. None: the
                whole image is one person; an empty list: there is nobody, and nothing to ask.
            model: Another ensemble for the task on the server, e.g. "pose_2b". None: "pose".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            One person per box, in the order of the boxes.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._ask(image, lambda call: pose_result(call, bboxes, model), options)

    def detect(
        self, image: ImageLike, *, model: str | None = None, **options: Unpack[CallOptions]
    ) -> DetectionResult:
        """Find the boxes of the persons in an image.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            model: Another ensemble for the task on the server, e.g. "detect_2b". None: "detect".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            Boxes with scores; none where nobody is found.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._ask(image, lambda call: detection_result(call, model), options)

    def people(
        self, image: ImageLike, *, whole_image_if_nobody: bool = False, **options: Unpack[CallOptions]
    ) -> PoseResult:
        """Find the persons in an image, and their keypoints.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            whole_image_if_nobody: Take the whole image for a person where nobody is found, as the reference
                does; its box has score 0.
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            One person per box that the server's detector finds; none where it finds nobody.

        Raises:
            SapiensError: There is no result; its class tells why, see `SapiensClient`.
        """
        return self._ask(
            image, lambda call: people_result(call, whole_image_if_nobody=whole_image_if_nobody), options
        )

    def analyze(
        self,
        image: ImageLike,
        tasks: TaskName | Iterable[TaskName] | None = None,
        **options: Unpack[CallOptions],
    ) -> Analysis:
        """Ask for several tasks at the same time.

        The image is read and encoded once. Depth or pointmap, normals and segmentation also travel together,
        where the server has the ensemble `human`; each of the other tasks is a request of its own.

        Args:
            image: A path, the bytes of a file, an open file, a PIL image or an array, see `ImageLike`.
            tasks: Names of methods: "depth", "normal", "seg", "pose" (the whole image as one person),
                "features", "pointmap", "matting", "albedo", "detect", "people". None: "depth", "normal" and
                "seg", or with a server of the second family "pointmap", "normal" and "seg".
            options: `timeout_s`, `headers`, `channel_order` and `dtype` of this call, see `CallOptions`.

        Returns:
            The results: `analysis.depth`, or `analysis["depth"]`, is that of `depth`, or raises its error. A
            task that fails does not take the others with it; its error stands in `analysis.failed`.

        Raises:
            InvalidInputError: There is no such task, or the image is none.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            SapiensError: Every task failed for a reason of the whole call: no server, a wrong token.
        """
        chosen = None if tasks is None else checked_tasks(tasks)
        return self._ask(image, lambda call: analyze(call.session, call.upload, chosen), options)

    def _dense(
        self, task: Task, kind: type[D], image: ImageLike, model: str | None, options: CallOptions
    ) -> D:
        return self._ask(image, lambda call: dense_result(call, task, kind, model), options)
