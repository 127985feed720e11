"""Pieces of bytes through a pipe, each with its length before it."""

from __future__ import annotations

import struct
from typing import IO

_LENGTH = struct.Struct("<Q")


def write_frame(pipe: IO[bytes], content: bytes) -> None:
    """Nothing is flushed."""
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)


def read_frame(pipe: IO[bytes]) -> bytes:
    """Raises EOFError if the other side has ended."""
    (length,) = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return _exactly(pipe, length)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) < count:
        raise EOFError
    return content
