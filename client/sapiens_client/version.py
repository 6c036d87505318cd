"""Which release of the SDK this is."""

from __future__ import annotations

from functools import cache


@cache
def sdk_version() -> str:
    """Return the version of the installed distribution."""
    from importlib.metadata import version  # here, because it loads much

    return version("sapiens-triton")
