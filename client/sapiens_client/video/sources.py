"""Where videos come from: files, addresses of streams, cameras."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sapiens_client.errors import ImageNotFoundError, InvalidInputError
from sapiens_client.tasks.fetch import without_secrets

VideoSource: TypeAlias = "str | os.PathLike[str] | int"
"""A file, the address of a stream ("rtsp://camera/live", "https://..."), or the number of a camera from 0."""

# Names of the files that the command takes for videos; FFmpeg itself looks at what is in them.
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for names in (
        ("mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts"),
        ("wmv", "flv", "ogv", "3gp", "mxf", "y4m"),
    )
    for name in names
)
_URL = re.compile("(rtsps?|rtmps?|https?|udp|rtp|srt)://")
_CAMERA = re.compile(r"/dev/video\d+")
_NETWORK_PROTOCOLS = "rtsp,rtsps,rtp,rtmp,rtmps,rtmpt,srtp,srt,udp,tcp,tls,http,https,httpproxy,crypto"
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Opening:
    """How FFmpeg opens a source.

    Attributes:
        file: What it opens.
        name: What messages and results call it, without passwords.
        is_live: Whether it comes as it happens, with no end of its own.
        format: Of its content; None: FFmpeg finds out.
        options: Of FFmpeg.
        timeout_s: How long opening and each reading may take; None: as long as the disk takes. [s]
    """

    file: str = field(repr=False)
    name: str
    is_live: bool = False
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    timeout_s: float | None = None


def is_stream(text: str) -> bool:
    """Return whether a text is the address of a stream or of a camera, and not the path of a file."""
    return bool(_URL.match(text) or _CAMERA.fullmatch(text))


def opening(source: VideoSource) -> Opening:
    """Tell how a source is opened.

    Raises:
        ImageNotFoundError: There is no such file.
        InvalidInputError: It is no source.
    """
    if isinstance(source, bool) or not isinstance(source, int | str | os.PathLike):
        raise InvalidInputError(
            f"video must be a path, an address or the number of a camera, got {type(source).__name__}"
        )
    if isinstance(source, int):
        return _camera(source)
    text = os.fspath(source)
    if isinstance(source, str) and _URL.match(text):
        # Whoever answers at an address must not have files of this machine read.
        options = {"protocol_whitelist": _NETWORK_PROTOCOLS}
        if text.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # which loses no packets
        is_live = not text.startswith("http")
        return Opening(text, without_secrets(text), is_live, None, options, _TIMEOUT_S)
    if _CAMERA.fullmatch(text):
        return Opening(text, text, True, "v4l2", timeout_s=_TIMEOUT_S)
    if not Path(text).exists():
        raise ImageNotFoundError(f"video must exist, got {text!r}; check the path")
    # The prefix, so that a name with a colon is no protocol; the list, because playlists name further files.
    return Opening(f"file:{text}", text, options={"protocol_whitelist": "file,crypto,data"})


def _camera(number: int) -> Opening:
    if number < 0:
        raise InvalidInputError(f"the number of a camera must be from 0, got {number}")
    if sys.platform == "linux":
        return opening(f"/dev/video{number}")
    if sys.platform == "darwin":
        return Opening(str(number), f"camera {number}", True, "avfoundation", timeout_s=_TIMEOUT_S)
    raise InvalidInputError(f"cameras by number are known on Linux and macOS, got {sys.platform}")
