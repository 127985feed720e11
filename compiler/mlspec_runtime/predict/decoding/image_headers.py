"""What image files say of themselves, read without decoding: their size, and whether their content can be so large.

Sources: PNG (W3C, 2003) 5.2, 8.2 and 11.2.2; JPEG (ITU T.81) B.2.2; WebP container specification and RFC 6386, 9.1.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from mlspec_runtime.predict.signature import BadTensorError

FORMATS = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "webp": re.compile(rb"RIFF....WEBP", re.S),
}
"""How files of a format begin."""
MOST_SCANS = 100
"""Of a JPEG: each goes over the whole image, and a file of a megabyte has room for tens of thousands."""
_PIECE_BYTES = 1 << 16
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a PNG, by its colour type."""
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of an interlaced PNG's passes: first column and row, and the steps."""
_NO_SIZE = frozenset((0xC4, 0xC8, 0xCC))
"""Among JPEG's markers C0 to CF those that begin no frame."""


def image_size(content: bytes) -> tuple[int, int]:
    """Width and height, as the header says. Raises BadTensorError for what is no image, or has none."""
    name = next((name for name, magic in FORMATS.items() if magic.match(content)), None)
    if name is None:
        raise BadTensorError("is no PNG, JPEG or WebP file")
    try:
        width, height = {"png": _png_size, "jpeg": _jpeg_size, "webp": _webp_size}[name](content)
    except (struct.error, IndexError):
        raise BadTensorError(f"is a {name.upper()} file whose header is cut") from None
    if width < 1 or height < 1:
        raise BadTensorError(f"is a {name.upper()} file without a size")
    return width, height


def check_content(content: bytes, size: tuple[int, int]) -> None:
    """That the data is of the size that the header says, as far as it tells without decoding. Raises BadTensorError."""
    if FORMATS["png"].match(content):
        _check_png(content, size)
    # In the coded data this pair of bytes can't be: another byte follows there.
    elif FORMATS["jpeg"].match(content) and content.count(b"\xff\xda") > MOST_SCANS:
        raise BadTensorError(f"is a JPEG file of more than {MOST_SCANS} scans")


def _png_size(content: bytes) -> tuple[int, int]:
    if content[12:16] != b"IHDR":
        return 0, 0
    width, height, *_ = struct.unpack_from(">II5B", content, 16)
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int]:
    at = 2
    while content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        if marker == 0xDA:
            break
        (length,) = struct.unpack_from(">H", content, at + 2)
        at += 2 + max(2, length)
    return 0, 0


def _webp_size(content: bytes) -> tuple[int, int]:
    kind = content[12:16]
    if kind == b"VP8X":
        width, high_width, height, high_height = struct.unpack_from("<HBHB", content, 24)
        return (width | high_width << 16) + 1, (height | high_height << 16) + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _check_png(content: bytes, size: tuple[int, int]) -> None:
    """The inflated data has exactly the bytes of its rows: a viewer shows something of what has fewer, or more."""
    depth, colour, _, _, interlaced = struct.unpack_from(">5B", content, 24)
    if colour not in _CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise BadTensorError("is a PNG file of an unknown kind")
    wanted = _png_bytes(size, depth * _CHANNELS[colour], interlaced == 1)
    if not _ends(content):
        raise BadTensorError("is a PNG file that is cut")
    if _inflated_bytes(_png_data(content), wanted) != wanted:
        raise BadTensorError("is a PNG file whose data is not of the size that its header says")


def _png_bytes(size: tuple[int, int], pixel_bits: int, interlaced: bool) -> int:
    if not interlaced:
        return _pass_bytes(*size, pixel_bits)
    width, height = size
    return sum(
        _pass_bytes(-(-(width - column) // right), -(-(height - row) // down), pixel_bits)
        for column, row, right, down in _ADAM7
    )


def _pass_bytes(width: int, height: int, pixel_bits: int) -> int:
    """Of one pass's rows, each with a byte that names its filter; an empty pass has none."""
    return 0 if width <= 0 or height <= 0 else height * (1 + (width * pixel_bits + 7) // 8)


def _ends(content: bytes) -> bool:
    """Whether its last chunk is there."""
    return any(kind == b"IEND" and end <= len(content) for kind, _, end in _chunks(content))


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Of each its kind, where its data begins, and where it ends with its checksum."""
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at + 8, at + 12 + length
        at += 12 + length


def _png_data(content: bytes) -> Iterator[bytes]:
    """The data of all chunks that have some, in pieces."""
    for kind, begin, end in _chunks(content):
        if kind == b"IDAT":
            for at in range(begin, end - 4, _PIECE_BYTES):
                yield content[at : min(at + _PIECE_BYTES, end - 4)]


def _inflated_bytes(pieces: Iterator[bytes], most: int) -> int:
    """How many bytes come out, a little over `most` at most; -1 if they aren't whole. None of them is kept."""
    inflate, count = zlib.decompressobj(), 0
    try:
        for piece in pieces:
            left, is_full = piece, False
            while (left or is_full) and count <= most and not inflate.eof:
                made = len(inflate.decompress(left, _PIECE_BYTES))
                count, left, is_full = count + made, inflate.unconsumed_tail, made == _PIECE_BYTES
    except zlib.error:
        return -1
    return count if inflate.eof else -1
