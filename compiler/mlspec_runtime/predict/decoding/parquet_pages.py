"""The headers of a Parquet file's pages: how large each will be, and how many values it has.

Whoever reads the file takes memory by these headers, and the footer's sums may say anything. Sources: parquet.thrift
(PageHeader and below), and Thrift's compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlspec_runtime.predict.decoding.parquet_reader import BROKEN
from mlspec_runtime.predict.signature import BadTensorError

_DELTA_BYTE_ARRAY = 7
"""Texts that repeat the beginning of the one before: a short page may stand for gigabytes."""
_MOST_DEPTH = 8
_MOST_HEADER_BYTES = 1 << 16
_UNPACKED_BYTES, _PACKED_BYTES = 2, 3
_TYPE = 1
_OF_PAGES = {0: 5, 2: 7, 3: 8}
"""The field of a header that says more of a data page, a dictionary's and a data page of version 2, by its type."""
_DATA_PAGES = (5, 8)
_VALUES = 1
_ENCODING = {5: 2, 7: 2, 8: 4}


@dataclass
class Budget:
    """What is left of the bytes and the values that a table may have."""

    bytes_left: int
    values_left: int

    def bytes(self, count: int) -> None:
        """Take some. Raises BadTensorError if there aren't so many left, as `values`."""
        self.bytes_left -= count
        if count < 0 or self.bytes_left < 0:
            raise BadTensorError("is a Parquet file that is too large when it is unpacked")

    def values(self, count: int) -> None:
        """Take some."""
        self.values_left -= count
        if count < 0 or self.values_left < 0:
            raise BadTensorError("is a Parquet file of too many values")


def count_pages(content: bytes, begin: int, length: int, values: int, budget: Budget) -> None:
    """Go through the pages of a column, from `begin` on, until its `values` have been seen. Raises BadTensorError."""
    end = begin + length
    if not 0 <= begin <= end <= len(content):
        raise _broken()
    while values > 0:
        reader = _Compact(content, begin, min(end, begin + _MOST_HEADER_BYTES))
        header = reader.struct()
        values -= _counted(header, budget)
        begin = reader.at + _size(header, _PACKED_BYTES)
        if begin > end:
            raise _broken()


def _counted(header: dict[int, Any], budget: Budget) -> int:
    """The values of a page; those of a dictionary are none of the column's."""
    budget.bytes(_size(header, _UNPACKED_BYTES))
    field = _OF_PAGES.get(_size(header, _TYPE), 0)
    own = header.get(field)
    if not isinstance(own, dict):
        raise _broken()
    count = _size(own, _VALUES)
    if own.get(_ENCODING[field]) == _DELTA_BYTE_ARRAY:
        raise BadTensorError("is a Parquet file in the encoding DELTA_BYTE_ARRAY, which is not taken")
    if count > budget.values_left + _MOST_HEADER_BYTES and field not in _DATA_PAGES:
        raise BadTensorError("is a Parquet file of too many values")
    return count if field in _DATA_PAGES else 0


def _size(header: dict[int, Any], field: int) -> int:
    size = header.get(field)
    if not isinstance(size, int) or size < 0:
        raise _broken()
    return size


def _broken() -> BadTensorError:
    return BadTensorError(BROKEN)


class _Compact:
    """Reads Thrift's compact protocol: structures as numbers and structures by their fields, all else is skipped."""

    def __init__(self, content: bytes, at: int, end: int) -> None:
        self._content = content
        self._end = end
        self.at = at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Raises BadTensorError."""
        if depth > _MOST_DEPTH:
            raise _broken()
        found: dict[int, Any] = {}
        field = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            field = field + step if step else self._zigzag()
            found[field] = self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (7, 8):
            return self._skip(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise _broken()

    def _list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(min(count, self._end)):
            # Of a list, booleans have a byte of their own.
            self._value(3 if head & 15 in (1, 2) else head & 15, depth + 1)

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > self._end:
            raise _broken()

    def _byte(self) -> int:
        if self.at >= self._end:
            raise _broken()
        self.at += 1
        return self._content[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _broken()

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
