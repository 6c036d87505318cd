"""The tasks of a client over many images."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sapiens_client.analysis import checked_tasks
from sapiens_client.bulk import mapped, mapped_async
from sapiens_client.errors import InvalidInputError
from sapiens_client.progress import num_known, shown, shown_async
from sapiens_client.questions import AnalysisTask

if TYPE_CHECKING:
    from sapiens_client.bulk_items import Item, OnError
    from sapiens_client.images import ImageLike


class BulkOptions(TypedDict, total=False):
    """Options of `sapiens_client.bulk.mapped`, which describes them."""

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
    items = mapped_async(_method(client, task, model, timeout_s), images, **options)
    return shown_async(items, task, num_known(images)) if progress else items


def _check_several(images: object) -> None:
    if isinstance(images, str | bytes | os.PathLike):  # whose letters or numbers are no images
        raise InvalidInputError(f"images must be several, got {images!r:.80}; pass a list, also of one")


def _method(client: object, task: str, model: str | None, timeout_s: float | None) -> Callable[..., Any]:
    (name,) = checked_tasks((task,))
    method = partial(getattr(client, name), timeout_s=timeout_s)
    if model is None:
        return method
    if name is AnalysisTask.PEOPLE:
        raise InvalidInputError(
            f"model must be None for 'people', got {model!r}; a server has one such ensemble"
        )
    return partial(method, model=model)
