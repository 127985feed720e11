"""What joblib packs its pickles with, and others their files: the begin of what is inside."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import BinaryIO

_INPUT_BYTES = 1 << 20
_ZLIB_SECOND_BYTES = b"\x01\x5e\x9c\xda"
_MEMORY_BYTES = 1 << 28
"""An LZMA file names the memory that unpacking it takes."""


def unpacked(head: bytes, file: BinaryIO, most_bytes: int) -> tuple[str, bytes] | None:
    """How a file that begins so is packed, and the begin of what is in it; None if it isn't packed."""
    how = _method(head)
    if how is None:
        return None
    file.seek(0)
    packed = file.read(_INPUT_BYTES)
    file.seek(0)
    try:
        return how, _unpack(how, packed, most_bytes)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, IndexError):
        return None


def _method(head: bytes) -> str | None:
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head[:1] == b"\x78" and head[1:2] in {bytes([one]) for one in _ZLIB_SECOND_BYTES}:
        return "zlib"
    if head.startswith(b"BZh"):
        return "bzip2"
    if head.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        return "LZMA"
    return "LZ4" if head.startswith(b"\x04\x22\x4d\x18") else None


def _unpack(how: str, packed: bytes, most_bytes: int) -> bytes:
    """Raises what the library raises for data that isn't packed so."""
    if how in ("gzip", "zlib"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(packed, most_bytes)
    if how == "bzip2":
        return bz2.BZ2Decompressor().decompress(packed, most_bytes)
    if how == "LZMA":
        return lzma.LZMADecompressor(memlimit=_MEMORY_BYTES).decompress(packed, most_bytes)
    return _lz4_literals(packed)


def _lz4_literals(packed: bytes) -> bytes:
    """The bytes before the first repetition in an LZ4 frame: a pickle's first operations are among them (LZ4 frame
    format 1.6.1; block format).
    """
    flags = packed[4]
    at = 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
    size = int.from_bytes(packed[at : at + 4], "little")
    at += 4
    if size & 0x8000_0000:
        return packed[at : at + (size & 0x7FFF_FFFF)]
    length, at = packed[at] >> 4, at + 1
    if length == 15:
        while True:
            more, at = packed[at], at + 1
            length += more
            if more != 255:
                break
    return packed[at : at + length]
