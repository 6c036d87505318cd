"""Names of shared-memory regions in the server's texts: who knows one can register the region as its own."""

from __future__ import annotations

import re

_NAME = re.compile(r"(shared memory (?:pool size for key|region):?) '[^']*'")


def without_region_names(text: str) -> str:
    """Return a text of Triton without them."""
    return _NAME.sub(r"\1", text)
