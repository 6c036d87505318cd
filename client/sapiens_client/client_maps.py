"""Many images: the method `map` of both clients."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Unpack, overload

from sapiens_client.bulk.tasks import MapOptions, task_items, task_items_async
from sapiens_client.tasks.table import AnalysisTask

if TYPE_CHECKING:
    from sapiens_client.bulk.items import Item
    from sapiens_client.results.base import Result
    from sapiens_client.results.dense import FeatureResult, NormalResult, SegmentationResult
    from sapiens_client.results.depth import DepthResult
    from sapiens_client.results.detections import DetectionResult
    from sapiens_client.results.matting import AlbedoResult, MattingResult
    from sapiens_client.results.people import PoseResult
    from sapiens_client.results.pointmap import PointmapResult
    from sapiens_client.tasks.analyze import Analysis
    from sapiens_client.tasks.images import ImageLike

R = TypeVar("R")
T = TypeVar("T")

Images: TypeAlias = "Iterable[ImageLike]"
ImagesAsync: TypeAlias = "Iterable[ImageLike] | AsyncIterable[ImageLike]"
Items: TypeAlias = "Generator[Item[R], None, None]"
ItemsAsync: TypeAlias = "AsyncGenerator[Item[R], None]"


class MapsImages:
    """A client whose methods can be asked about many images."""

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
        self, task: Literal["pointmap"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[PointmapResult]: ...
    @overload
    def map(
        self, task: Literal["matting"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[MattingResult]: ...
    @overload
    def map(
        self, task: Literal["albedo"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[AlbedoResult]: ...
    @overload
    def map(
        self, task: Literal["detect"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[DetectionResult]: ...
    @overload
    def map(
        self, task: Literal["pose", "people"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[PoseResult]: ...
    @overload
    def map(  # type: ignore[overload-overlap]  # an AnalysisTask is a string, but never this one
        self, task: Literal["analyze"], images: Images, **options: Unpack[MapOptions]
    ) -> Items[Analysis]: ...
    @overload
    def map(self, task: AnalysisTask, images: Images, **options: Unpack[MapOptions]) -> Items[Result]: ...
    @overload
    def map(self, task: Callable[[T], R], images: Iterable[T], **options: Unpack[MapOptions]) -> Items[R]: ...
    def map(self, task: Any, images: Any, **options: Unpack[MapOptions]) -> Items[Any]:
        """Ask about many images, several at a time.

        Images are read when it is their turn, and no more results are kept than stated under `concurrency`.
        Closing the iterator, or leaving the loop over it, stops everything without waiting.

        Args:
            task: Name of the method to ask with, "analyze" included; `pose` without `bboxes` takes the whole
                images as persons. Or a function of an image, awaited where methods are.
            images: As the methods take them; may be a generator, which is closed in the end.
            options: `concurrency=8`: how many to ask about at a time; at most twice as many are under way or
                kept. `ordered=True`: items come in the order of the images, else as they are ready.
                `on_error="raise"`: the first error ends everything; "yield": it stands in its item.
                `progress=False`: whether to draw a bar on a terminal. `bboxes=None`: for `pose`, the boxes in
                each image, taken along with it. `tasks`: for `analyze`. `model=None`, and those of
                `CallOptions`: as for the methods, for every image.

        Returns:
            One item per image: `item.index`, `item.image` (its path), `item.result`, `item.error`.

        Raises:
            InvalidInputError: There is no such task, or an option cannot be used.

        Example:
            >>> for item in client.map("seg", Path("photos").glob("*.jpg"), progress=True):
            ...     item.result.save(f"out/{item.index}.ids.png")
        """
        return task_items(self, task, images, **options)


class MapsImagesAsync:
    """A client whose coroutine methods can be asked about many images."""

    @overload
    def map(
        self, task: Literal["depth"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[DepthResult]: ...
    @overload
    def map(
        self, task: Literal["normal"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[NormalResult]: ...
    @overload
    def map(
        self, task: Literal["seg"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[SegmentationResult]: ...
    @overload
    def map(
        self, task: Literal["features"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[FeatureResult]: ...
    @overload
    def map(
        self, task: Literal["pointmap"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[PointmapResult]: ...
    @overload
    def map(
        self, task: Literal["matting"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[MattingResult]: ...
    @overload
    def map(
        self, task: Literal["albedo"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[AlbedoResult]: ...
    @overload
    def map(
        self, task: Literal["detect"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[DetectionResult]: ...
    @overload
    def map(
        self, task: Literal["pose", "people"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[PoseResult]: ...
    @overload
    def map(  # type: ignore[overload-overlap]  # an AnalysisTask is a string, but never this one
        self, task: Literal["analyze"], images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[Analysis]: ...
    @overload
    def map(
        self, task: AnalysisTask, images: ImagesAsync, **options: Unpack[MapOptions]
    ) -> ItemsAsync[Result]: ...
    @overload
    def map(
        self,
        task: Callable[[T], Awaitable[R]],
        images: Iterable[T] | AsyncIterable[T],
        **options: Unpack[MapOptions],
    ) -> ItemsAsync[R]: ...
    def map(self, task: Any, images: Any, **options: Unpack[MapOptions]) -> ItemsAsync[Any]:
        """Ask about many images, several at a time.

        Images are read when it is their turn, and no more results are kept than stated under `concurrency`.
        Closing the iterator, or leaving the loop over it, stops everything without waiting.

        Args:
            task: Name of the method to ask with, "analyze" included; `pose` without `bboxes` takes the whole
                images as persons. Or a function of an image, awaited where methods are.
            images: As the methods take them; may be a generator, which is closed in the end.
            options: `concurrency=8`: how many to ask about at a time; at most twice as many are under way or
                kept. `ordered=True`: items come in the order of the images, else as they are ready.
                `on_error="raise"`: the first error ends everything; "yield": it stands in its item.
                `progress=False`: whether to draw a bar on a terminal. `bboxes=None`: for `pose`, the boxes in
                each image, taken along with it. `tasks`: for `analyze`. `model=None`, and those of
                `CallOptions`: as for the methods, for every image.

        Returns:
            One item per image: `item.index`, `item.image` (its path), `item.result`, `item.error`.

        Raises:
            InvalidInputError: There is no such task, or an option cannot be used.

        Example:
            >>> async for item in client.map("seg", Path("photos").glob("*.jpg"), progress=True):
            ...     item.result.save(f"out/{item.index}.ids.png")
        """
        return task_items_async(self, task, images, **options)
