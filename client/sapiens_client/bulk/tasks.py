"""The tasks of a client over many images."""

from __future__ import annotations

import difflib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sapiens_client.bulk.progress import num_known, shown, shown_async
from sapiens_client.bulk.run import mapped, mapped_async
from sapiens_client.errors import InvalidInputError
from sapiens_client.tasks.analyze import checked_tasks
from sapiens_client.tasks.call import check_model_name
from sapiens_client.tasks.table import AnalysisTask

if TYPE_CHECKING:
    from sapiens_client.bulk.items import Item, OnError
    from sapiens_client.tasks.images import ImageLike


_BATCH_DIMENSIONS = 4  # of an array of images


class BulkOptions(TypedDict, total=False):
    """Options of `sapiens_client.bulk.run.mapped`, which describes them."""

    concurrency: int
    ordered: bool
    on_error: OnError


class MapOptions(BulkOptions, total=False):
    """Options of `SapiensClient.map`, which describes them."""

    progress: bool
    model: str | None
    timeout_s: float | None


def task_items(
    client: object,
    task: str,
    images: Iterable[ImageLike],
    *,
    progress: bool = False,
    model: str | None = None,
    timeout_s: float | None = None,
    **options: Unpack[BulkOptions],
) -> Generator[Item[Any], None, None]:
    """Ask a method of a client about every image.

    Args:
        client: Has a method for the task.
        task: Name of the method.
        images: What to ask about.
        progress: Draw a bar on standard error, where that is a terminal.
        model: Another ensemble for the task on the server; None: that of the task.
        timeout_s: How long each call may take; None: the client's timeout. [s]
        options: See `mapped`.

    Raises:
        InvalidInputError: There is no such task, or an option cannot be used.
    """
    _check_several(images)
    _check_options(options)
    items = mapped(_method(client, task, model, timeout_s), images, **options)
    return shown(items, task, num_known(images)) if progress else items


def task_items_async(
    client: object,
    task: str,
    images: Iterable[ImageLike] | AsyncIterable[ImageLike],
    *,
    progress: bool = False,
    model: str | None = None,
    timeout_s: float | None = None,
    **options: Unpack[BulkOptions],
) -> AsyncGenerator[Item[Any], None]:
    """Ask a coroutine method of a client about every image, as `task_items`.

    Args:
        client: Has a coroutine method for the task.
        task: Name of the method.
        images: What to ask about.
        progress: Draw a bar on standard error, where that is a terminal.
        model: Another ensemble for the task on the server; None: that of the task.
        timeout_s: How long each call may take; None: the client's timeout. [s]
        options: See `mapped_async`.

    Raises:
        InvalidInputError: There is no such task, or an option cannot be used.
    """
    _check_several(images)
    _check_options(options)
    items = mapped_async(_method(client, task, model, timeout_s), images, **options)
    return shown_async(items, task, num_known(images)) if progress else items


def _check_several(images: object) -> None:
    # Of letters, of numbers, of lines, or of the rows of one image.
    is_one = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike | Mapping)
    is_one = is_one or hasattr(images, "read")
    is_one = is_one or getattr(images, "ndim", _BATCH_DIMENSIONS) < _BATCH_DIMENSIONS
    if is_one or not isinstance(images, Iterable | AsyncIterable):
        seen = f"an array of shape {images.shape}" if hasattr(images, "shape") else f"{images!r:.80}"
        raise InvalidInputError(f"images must be several, got {seen}; pass a list, also of one")


def _check_options(options: Mapping[str, object]) -> None:
    for name in options:
        if name not in MapOptions.__annotations__:
            close = difflib.get_close_matches(name, MapOptions.__annotations__, n=1)
            hint = f"; perhaps {close[0]!r}" if close else ""
            raise InvalidInputError(
                f"options of map must be some of {', '.join(MapOptions.__annotations__)}, got {name!r}{hint}"
            )


def _method(client: object, task: str, model: str | None, timeout_s: float | None) -> Callable[..., Any]:
    (name,) = checked_tasks((task,))
    method = partial(getattr(client, name), timeout_s=timeout_s)
    if model is None:
        return method
    check_model_name(model)
    if name is AnalysisTask.PEOPLE:
        raise InvalidInputError(
            f"model must be None for 'people', got {model!r}; a server has one such ensemble"
        )
    return partial(method, model=model)
