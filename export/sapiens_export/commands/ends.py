"""How the command ends when it does not end well."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_MISSING_EXTRA = "sapiens {command} needs {name}: pip install 'sapiens-triton[export]'"
WRONG_USAGE = 2
_INTERRUPTED = 128 + signal.SIGINT


@contextmanager
def interruptible(console: Console, command: str = "export") -> Iterator[None]:
    """End on errors, Ctrl-C and SIGTERM alike: clean up, one line; exit status 1, if interrupted 130.

    Args:
        console: For the line.
        command: What is interrupted.
    """
    interruptions: list[int] = []

    def interrupt(number: int, _frame: object) -> NoReturn:
        interruptions.append(number)
        signal.signal(number, signal.SIG_IGN)  # `timeout` may deliver it twice, also into the cleaning up
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:  # torch makes an error of its own of an interruption
        if not interruptions:
            raise
        console.print(f"sapiens {command}: interrupted", markup=False)
        raise typer.Exit(_INTERRUPTED) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told_in_a_sentence(
    console: Console, command: str = "export", *, status_of_value_errors: int = 1
) -> Iterator[None]:
    """End on errors with one line and exit status 1.

    Args:
        console: For the line.
        command: What fails.
        status_of_value_errors: Exit status of ValueErrors instead, `WRONG_USAGE` where only the user's
            words are looked at.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        console.print(_MISSING_EXTRA.format(command=command, name=error.name), markup=False)
        raise typer.Exit(1) from error
    except typer.Exit:  # a RuntimeError, like those of torch
        raise
    except (ValueError, OSError, RuntimeError) as error:
        console.print(f"sapiens {command}: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(status_of_value_errors if isinstance(error, ValueError) else 1) from error
