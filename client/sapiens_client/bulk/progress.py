"""A bar on the terminal for who waits."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator, Sized
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


def progress_bar(*, is_wanted: bool = True) -> Progress:
    """Return bars on standard error; none is drawn where that is no terminal, or where none is wanted."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    # Printed lines go above the bar where standard output is the terminal too, else where it is sent.
    is_shown = is_wanted and (console.is_terminal or console.is_jupyter)
    return Progress(console=console, disable=not is_shown, redirect_stdout=sys.stdout.isatty())


def frames_bar(*, is_wanted: bool = True) -> Progress:
    """Return bars as `progress_bar`, which also tell how many frames a second are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    bar = progress_bar(is_wanted=is_wanted)
    rate = TextColumn("{task.fields[rate]}")
    bar.columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
    )
    return bar


def num_known(images: object) -> int | None:
    """Return how many images there are; None: only taking them tells."""
    return len(images) if isinstance(images, Sized) else None


def shown(items: Generator[T, None, None], title: str, total: int | None) -> Generator[T, None, None]:
    """Hand the items on and draw how many there were.

    Args:
        items: Closed at the end.
        title: What stands before the bar.
        total: How many there will be; None: unknown.
    """
    with progress_bar() as bar, closing(items):
        task = bar.add_task(title, total=total)
        for item in items:
            yield item
            bar.advance(task)


async def shown_async(
    items: AsyncGenerator[T, None], title: str, total: int | None
) -> AsyncGenerator[T, None]:
    """Hand the items on and draw how many there were, as `shown`."""
    with progress_bar() as bar:
        task = bar.add_task(title, total=total)
        async with aclosing(items):
            async for item in items:
                yield item
                bar.advance(task)
