"""Bytes in memory as a file that copies only what is read of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def opened(encoded: NDArray[np.uint8]) -> io.BufferedReader:
    """Open uint8 of shape (B,) for reading; `io.BytesIO` copies all of it first."""
    return io.BufferedReader(_Bytes(encoded.data))


class _Bytes(io.RawIOBase):
    def __init__(self, content: memoryview) -> None:
        self._content, self._position = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}[whence]
        if start + offset < 0:
            raise ValueError(f"position must not be negative, got {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # the one that buffers has it
        part = self._content[self._position :][: len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def readall(self) -> bytes:
        part = self._content[self._position :]
        self._position += len(part)
        return bytes(part)
