"""The tasks of a client over many images."""

from __future__ import annotations

import difflib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from sapiens_client.bulk.progress import num_known, shown, shown_async
from sapiens_client.bulk.run import mapped, mapped_async, paired, paired_async
from sapiens_client.connection.options import CallOptions
from sapiens_client.errors import InvalidInputError
from sapiens_client.tasks.analyze import checked_tasks
from sapiens_client.tasks.call import check_model_name
from sapiens_client.tasks.table import AnalysisTask

if TYPE_CHECKING:
    from sapiens_client.bulk.items import Item, OnError
    from sapiens_client.tasks.boxes import Boxes
    from sapiens_client.tasks.table import TaskName


_OF_CALLS = {*CallOptions.__annotations__, "tasks"}
_BATCH_DIMENSIONS = 4  # of an array of images


class BulkOptions(TypedDict, total=False):
    """Options of `sapiens_client.bulk.run.mapped`, which describes them."""

    concurrency: int
    ordered: bool
    on_error: OnError


class MapOptions(BulkOptions, CallOptions, total=False):
    """Options of `SapiensClient.map`, which describes them."""

    progress: bool
    model: str | None
    bboxes: Iterable[Boxes | None] | AsyncIterable[Boxes | None] | None
    tasks: Iterable[TaskName]


def task_items(
    client: object, task: str | Callable[[Any], Any], images: Iterable[Any], **options: Unpack[MapOptions]
) -> Generator[Item[Any], None, None]:
    """Ask a method of a client, or a function, about every image.

    Args:
        client: Has a method for the task.
        task: Name of the method, or the function.
        images: What to ask about.
        options: See `SapiensClient.map`.

    Raises:
        InvalidInputError: There is no such task, or an option cannot be used.
    """
    _check_several(images)
    ask, bulk = _asker(client, task, options), _bulk_options(options)
    bboxes = options.get("bboxes")
    if isinstance(bboxes, AsyncIterable):
        raise InvalidInputError(
            f"bboxes must not be asynchronous here, got {type(bboxes).__name__}; use an AsyncSapiensClient"
        )
    asked = images if bboxes is None else paired(images, bboxes)
    items = mapped(ask, asked, **bulk)
    return shown(items, _title(task), num_known(images)) if options.get("progress") else items


def task_items_async(
    client: object,
    task: str | Callable[[Any], Awaitable[Any]],
    images: Iterable[Any] | AsyncIterable[Any],
    **options: Unpack[MapOptions],
) -> AsyncGenerator[Item[Any], None]:
    """Ask a coroutine method of a client, or such a function, about every image, as `task_items`.

    Args:
        client: Has a coroutine method for the task.
        task: Name of the method, or the function.
        images: What to ask about.
        options: See `AsyncSapiensClient.map`.

    Raises:
        InvalidInputError: There is no such task, or an option cannot be used.
    """
    _check_several(images)
    ask, bulk = _asker(client, task, options), _bulk_options(options)
    bboxes = options.get("bboxes")
    asked = images if bboxes is None else paired_async(images, bboxes)
    items = mapped_async(ask, asked, **bulk)
    return shown_async(items, _title(task), num_known(images)) if options.get("progress") else items


def _title(task: object) -> str:
    return task if isinstance(task, str) else getattr(task, "__name__", "map")


def _bulk_options(options: MapOptions) -> BulkOptions:
    given = {name: value for name, value in options.items() if name in BulkOptions.__annotations__}
    return cast(BulkOptions, given)


def _check_several(images: object) -> None:
    # Of letters, of numbers, of lines, or of the rows of one image.
    is_one = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Mapping)
    is_one = is_one or hasattr(images, "read")
    is_one = is_one or getattr(images, "ndim", _BATCH_DIMENSIONS) < _BATCH_DIMENSIONS
    if is_one or not isinstance(images, Iterable | AsyncIterable):
        seen = f"an array of shape {images.shape}" if hasattr(images, "shape") else f"{images!r:.80}"
        raise InvalidInputError(f"images must be several, got {seen}; pass a list, also of one")


def _asker(client: object, task: object, options: MapOptions) -> Callable[..., Any]:
    """Return what is called with every image.

    Raises:
        InvalidInputError: There is no such task, or it has no such option.
    """
    name = task if callable(task) or task == "analyze" else checked_tasks((task,))[0]  # type: ignore[arg-type]
    _check_options(name, options)
    if callable(name):
        return name
    given = {key: value for key, value in options.items() if key in _OF_CALLS}
    if (model := options.get("model")) is not None:
        check_model_name(model)
        given["model"] = model
    method = partial(getattr(client, name), **given)
    if options.get("bboxes") is None:
        return method
    return lambda each: method(each.image, each.bboxes)


def _check_options(task: object, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if name not in MapOptions.__annotations__:
            close = difflib.get_close_matches(name, MapOptions.__annotations__, n=1)
            hint = f"; perhaps {close[0]!r}" if close else ""
            raise InvalidInputError(
                f"options of map must be some of {', '.join(MapOptions.__annotations__)}, got {name!r}{hint}"
            )
        if value is None or name == "progress" or name in BulkOptions.__annotations__:
            continue
        if callable(task):
            raise InvalidInputError(f"{name} must be left to the function that asks, got {value!r:.80}")
        if (name == "bboxes" and task != AnalysisTask.POSE) or (name == "tasks" and task != "analyze"):
            raise InvalidInputError(f"{name} must be None for {str(task)!r}, got {value!r:.80}")
        if name == "model" and task in ("analyze", AnalysisTask.PEOPLE):
            raise InvalidInputError(
                f"model must be None for {str(task)!r}, got {value!r:.80}; a server has one such ensemble"
            )
