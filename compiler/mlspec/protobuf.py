"""Protocol Buffers' wire format, read as far as it is asked for: of a large file no more than the heads of its fields.

ONNX and Core ML write their models in it. A message is a row of fields, each a number, and a whole number or a range of
bytes; what a field means is its reader's business (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mlspec.model_files import BadModelFileError

_VARINT, _I64, _LENGTH, _I32 = 0, 1, 2, 5
_LONGEST_VARINT_BYTES = 10
_HEAD_BYTES = 2 * _LONGEST_VARINT_BYTES
_KEPT_BYTES = 1 << 20
"""A message up to this size is read at once, as what is in it is asked for one by one."""
_MOST_FIELDS = 20_000_000
"""Of a file: a model of a thousand layers has some hundred thousand."""


class Field(NamedTuple):
    """A field of a message: its `number`, and its `value`, of a range of bytes their count; then `start` says where."""

    number: int
    value: int
    start: int | None = None


@dataclass
class _Source:
    """An open file, of which `kept` are the bytes from `at` on."""

    handle: int
    fields_left: int = _MOST_FIELDS
    at: int = 0
    kept: bytes = field(default=b"", repr=False)

    def read(self, start: int, count: int) -> bytes:
        if self.at <= start and start + count <= self.at + len(self.kept):
            return self.kept[start - self.at : start - self.at + count]
        return os.pread(self.handle, count, start)

    def keep(self, start: int, count: int) -> None:
        if count <= _KEPT_BYTES and not (self.at <= start and start + count <= self.at + len(self.kept)):
            self.at, self.kept = start, os.pread(self.handle, count, start)


@dataclass(frozen=True)
class Message:
    """A message of `size` bytes in an open file. Reading it raises BadModelFileError where it is none, and OSError."""

    source: _Source
    start: int
    size: int

    def fields(self) -> Iterator[Field]:
        """Its fields in their order."""
        at, end = self.start, self.start + self.size
        self.source.keep(at, self.size)
        while at < end:
            found, at = self._field(at, end)
            yield found

    def _field(self, at: int, end: int) -> tuple[Field, int]:
        self.source.fields_left -= 1
        if self.source.fields_left < 0:
            raise BadModelFileError("it has too many parts")
        head = self.source.read(at, min(_HEAD_BYTES, end - at))
        key, read = _varint(head, 0)
        number, kind = key >> 3, key & 7
        if kind in (_I64, _I32):
            at += read + (8 if kind == _I64 else 4)
            value, start = 0, None
        elif kind in (_VARINT, _LENGTH):
            value, read = _varint(head, read)
            start = at + read if kind == _LENGTH else None
            at += read + (value if kind == _LENGTH else 0)
        else:
            raise BadModelFileError("a part of it is of an unknown kind")
        if at > end or number == 0:
            raise BadModelFileError("it is cut off, or broken")
        return Field(number, value, start), at

    def message(self, found: Field) -> Message:
        """The message in one of its fields."""
        return Message(self.source, *self._range(found))

    def content(self, found: Field, most_bytes: int = 1 << 16) -> bytes:
        """The bytes of one of its fields."""
        start, size = self._range(found)
        if size > most_bytes:
            raise BadModelFileError("a text in it is too long")
        return self.source.read(start, size)

    def text(self, found: Field) -> str:
        """The text of one of its fields."""
        try:
            return self.content(found).decode("utf-8")
        except UnicodeDecodeError:
            raise BadModelFileError("a text in it is none") from None

    def _range(self, found: Field) -> tuple[int, int]:
        if found.start is None:
            raise BadModelFileError("a number in it should be a text or a message")
        return found.start, found.value


def opened(handle: int) -> Message:
    """The message that an open file is."""
    return Message(_Source(handle), 0, os.fstat(handle).st_size)


def signed(value: int) -> int:
    """A field's number as int64."""
    return value - (1 << 64) if value >> 63 else value


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    for byte in content[at : at + _LONGEST_VARINT_BYTES]:
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
    raise BadModelFileError("it is cut off, or broken")
