"""The client for event loops: one method per task."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar, Unpack, overload

from sapiens_client.bulk.tasks import MapOptions, task_items_async
from sapiens_client.client import SapiensClient
from sapiens_client.connection.options import DEFAULTS, ClientOptions
from sapiens_client.connection.settings import checked_settings, chosen_url
from sapiens_client.results.dense import DepthResult, FeatureResult, NormalResult, SegmentationResult
from sapiens_client.servers.deadline import Deadline
from sapiens_client.servers.session import Call, Session
from sapiens_client.tasks.analyze import ANSWERED_TOGETHER, Analysis, analyze, checked_tasks
from sapiens_client.tasks.models import ModelCard, model_cards
from sapiens_client.tasks.questions import (
    AnalysisTask,
    TaskName,
    dense_result,
    detection_result,
    people_result,
    pose_result,
)
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from sapiens_client.bulk.items import Item
    from sapiens_client.connection.identity import TLS, Token
    from sapiens_client.results.base import Result
    from sapiens_client.results.people import DetectionResult, PoseResult
    from sapiens_client.steps import Flow
    from sapiens_client.tasks.images import ImageLike
    from sapiens_client.tasks.questions import Boxes

R = TypeVar("R")
C = TypeVar("C", bound=type)

Images: TypeAlias = "Iterable[ImageLike] | AsyncIterable[ImageLike]"
Items: TypeAlias = "AsyncGenerator[Item[R], None]"


def _documented_as(twin: type) -> Callable[[C], C]:
    """Give methods the docstrings that their twins in another class have."""

    def documented(cls: C) -> C:
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            if not name.startswith("_"):
                method.__doc__ = getattr(twin, name).__doc__
        return cls

    return documented


@_documented_as(SapiensClient)
class AsyncSapiensClient:
    """A `SapiensClient` whose methods are awaited; any number of tasks of one event loop may share it.

    Arguments, results and errors are those of `SapiensClient`. Files are read and images are encoded on other
    threads; a call that is cancelled is cancelled on the server too.

    Example:
        >>> async with AsyncSapiensClient("gpu-1:8001") as client:
        ...     (await client.depth("photo.jpg")).save("depth.png")
    """

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        timeout_s: float = 60.0,
        tls: bool | TLS = False,
        token: Token | None = None,
        headers: Mapping[str, str] | None = None,
        options: ClientOptions = DEFAULTS,
    ) -> None:
        from sapiens_client.wire.event_loop import AsyncTransport  # here, because it loads gRPC

        Deadline.after(timeout_s)  # refuses a bad timeout now, not at the first call
        settings = checked_settings(url, tls, token, headers, options)
        self._arguments: dict[str, Any] = {
            "url": chosen_url(url),
            "timeout_s": timeout_s,
            "tls": tls,
            "token": token,
            "headers": headers,
            "options": options,
        }
        self._timeout_s = timeout_s
        self._session = Session(settings)
        self._transport = AsyncTransport(settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[()]]:
        """Copy what the client was made with: who unpickles it gets one that connects anew."""
        return partial(type(self), **self._arguments), ()

    async def close(self) -> None:
        """Close the connections; calls under way and later ones end with a ClientClosedError."""
        try:
            await self._transport.run(self._session.close())
        finally:
            await self._transport.close()

    async def ready(self, *, timeout_s: float = 5.0) -> bool:
        """Return whether a server answers and all its models are loaded; False when there is none."""
        return await self._transport.run(self._session.is_ready(Deadline.after(timeout_s)))

    async def wait_until_ready(self, *, timeout_s: float = 300.0) -> None:
        """Wait until a server answers and all its models are loaded."""
        await self._transport.run(self._session.wait_until_ready(Deadline.after(timeout_s)))

    async def models(self, *, timeout_s: float | None = None) -> dict[str, ModelCard]:
        """Tell what the server serves."""
        deadline = Deadline.after(self._timeout_s if timeout_s is None else timeout_s)
        return await self._transport.run(model_cards(self._session, deadline))

    async def depth(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> DepthResult:
        """Estimate the relative depth of every pixel."""
        return await self._ask(
            image, timeout_s, lambda call: dense_result(call, Task.DEPTH, DepthResult, model)
        )

    async def normal(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> NormalResult:
        """Estimate the surface normal of every pixel."""
        return await self._ask(
            image, timeout_s, lambda call: dense_result(call, Task.NORMAL, NormalResult, model)
        )

    async def seg(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> SegmentationResult:
        """Find the body part or garment that every pixel belongs to."""
        return await self._ask(
            image, timeout_s, lambda call: dense_result(call, Task.SEG, SegmentationResult, model)
        )

    async def features(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> FeatureResult:
        """Compute the features of the pretrained backbone."""
        return await self._ask(
            image, timeout_s, lambda call: dense_result(call, Task.FEATURES, FeatureResult, model)
        )

    async def pose(
        self,
        image: ImageLike,
        bboxes: Boxes | None = None,
        *,
        model: str | None = None,
        timeout_s: float | None = None,
    ) -> PoseResult:
        """Find the keypoints of persons whose boxes are known."""
        return await self._ask(image, timeout_s, lambda call: pose_result(call, bboxes, model))

    async def detect(
        self, image: ImageLike, *, model: str | None = None, timeout_s: float | None = None
    ) -> DetectionResult:
        """Find the boxes of the persons in an image."""
        return await self._ask(image, timeout_s, lambda call: detection_result(call, model))

    async def people(
        self, image: ImageLike, *, whole_image_if_nobody: bool = False, timeout_s: float | None = None
    ) -> PoseResult:
        """Find the persons in an image, and their keypoints."""
        return await self._ask(
            image, timeout_s, lambda call: people_result(call, whole_image_if_nobody=whole_image_if_nobody)
        )

    async def analyze(
        self,
        image: ImageLike,
        tasks: TaskName | Iterable[TaskName] = ANSWERED_TOGETHER,
        *,
        timeout_s: float | None = None,
    ) -> Analysis:
        """Ask for several tasks at the same time."""
        chosen = checked_tasks(tasks)
        return await self._ask(image, timeout_s, lambda call: analyze(call.session, call.upload, chosen))

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
    def map(self, task: AnalysisTask, images: Images, **options: Unpack[MapOptions]) -> Items[Result]: ...
    def map(self, task: TaskName, images: Images, **options: Unpack[MapOptions]) -> Items[Any]:
        """Ask about many images, several at a time."""
        return task_items_async(self, task, images, **options)

    async def _ask(self, image: ImageLike, timeout_s: float | None, ask: Callable[[Call], Flow[R]]) -> R:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return await self._transport.run(self._session.about(image, timeout_s, ask))
