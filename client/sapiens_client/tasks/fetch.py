"""Image files from web servers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sapiens_client.deadline import Deadline
from sapiens_client.errors import ImageReadError, InvalidInputError
from sapiens_core.contract.limits import LIMITS

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector

_SCHEMES = ("http", "https")
_CHUNK_BYTES = 2**16


def without_secrets(url: str) -> str:
    """Return a URL, shortened, without what may be secret in it: a user and a password, and the query."""
    return re.sub("//[^/]*@", "//", re.split("[?#]", url, maxsplit=1)[0])[:200]


def fetched(url: str, timeout_s: float) -> bytes:
    """Return what is at a URL; redirections lead to http and https only.

    Args:
        url: With http or https.
        timeout_s: How long it may take. [s]

    Raises:
        InvalidInputError: The URL is another one, or there are more bytes than an image may have.
        ImageReadError: It took too long, or ended early.
        OSError: There is no answer, or another one than the file.
    """
    from http.client import HTTPException  # here, because they load much
    from urllib.error import HTTPError
    from urllib.request import Request

    shown, parts = without_secrets(url), urlsplit(url)
    if parts.scheme.lower() not in _SCHEMES or "@" in parts.netloc:
        raise InvalidInputError(
            f"image must be a path, bytes, or an http or https URL without a password, got {shown!r}; "
            "fetch it and pass its bytes"
        )
    deadline = Deadline.after(timeout_s)
    try:
        with _opener().open(Request(url), timeout=timeout_s) as reply:
            return _read(reply, shown, deadline)
    except HTTPError as error:
        error.close()
        raise
    except HTTPException as error:
        raise ImageReadError(f"{shown!r} must be answered by a web server, got: {error!r}") from error


def _read(reply: HTTPResponse, shown: str, deadline: Deadline) -> bytes:
    content, size = bytearray(), reply.length
    while len(content) != size and (part := reply.read1(_CHUNK_BYTES)):
        content += part
        if len(content) > LIMITS.max_image_bytes:
            raise InvalidInputError(
                f"image must have at most {LIMITS.max_image_bytes} bytes, got more from {shown!r}"
            )
        if deadline.left_s() <= 0:
            raise ImageReadError(
                f"image must be here within {deadline.timeout_s:g} s, got {len(content)} bytes of {shown!r}"
            )
    if size is not None and len(content) < size:
        raise ImageReadError(f"image must be whole, got {len(content)} of {size} bytes of {shown!r}")
    return bytes(content)


def _opener() -> OpenerDirector:
    """Return what fetches by http and https, through the proxies that the environment names, nothing else."""
    from urllib import request

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener
