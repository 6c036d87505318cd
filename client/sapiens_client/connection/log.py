"""What the SDK tells of its requests, written where somebody asked for it."""

from __future__ import annotations

import logging
import os

from sapiens_client.errors import InvalidInputError

_LEVELS = ("debug", "info", "warning", "error")


def write_log(level: str) -> None:
    """Write the lines of the logger `sapiens_client` on standard error, unless the program handles logs.

    Args:
        level: "debug" tells of every request, "info" of those that are sent again; "warning", "error".

    Raises:
        InvalidInputError: There is no such level.
    """
    if level.lower() not in _LEVELS:
        raise InvalidInputError(f"SAPIENS_LOG must be one of {', '.join(_LEVELS)}, got {level!r:.80}")
    logger = logging.getLogger("sapiens_client")
    logger.setLevel(level.upper())
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


def write_log_as_told() -> None:
    """Write the log that SAPIENS_LOG asks for, if it is set.

    Raises:
        InvalidInputError: It names no level.
    """
    if level := os.environ.get("SAPIENS_LOG"):
        write_log(level)
