"""A model's tensors, those that are alike in one row: a table of a hundred rows where there are a hundred thousand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from mlspec.characters import visible
from mlspec.model_files import BadModelFileError, Tensor

Ranges = tuple[tuple[int, int], ...]
"""Whole numbers in order, as first and last of each run."""

MOST_ROWS = 20_000
"""Far more than any model has: a layer of its own shape each takes some ten rows a layer."""

_LONGEST_NUMBER = 9
_LONGEST_NAME = 300


@dataclass(frozen=True)
class Row:
    """`count` tensors of one name (each number in it a `*`), shape and type, the same number of them in each layer.

    `layers` has the values of the name's first number; None if there is no number in it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    layers: Ranges | None = None

    @property
    def elements(self) -> int:
        """Of all its tensors."""
        return prod(self.shape) * self.count

    def but(self, **changes: Any) -> Row:
        """The row with other values."""
        return replace(self, **changes)

    def as_data(self) -> dict[str, Any]:
        layers = None if self.layers is None else [list(run) for run in self.layers]
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "count": self.count,
            "layers": layers,
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Row:
        """The inverse of `as_data`."""
        layers = None if data["layers"] is None else tuple((first, last) for first, last in data["layers"])
        return Row(data["name"], data["dtype"], tuple(data["shape"]), data["count"], layers)


def table(tensors: Mapping[str, Tensor]) -> tuple[Row, ...]:
    """The tensors in rows, sorted by name, shape and type.

    Raises:
        BadModelFileError: they have too many names for a model's.
    """
    counts = Counter((*pattern(name), tensor.dtype, tensor.shape) for name, tensor in tensors.items())
    alike: dict[tuple[Any, ...], list[int | None]] = defaultdict(list)
    for (name, layer, dtype, shape), count in counts.items():
        alike[name, shape, dtype, count].append(layer)
    if len(alike) > MOST_ROWS:
        raise BadModelFileError(f"the tensors have {len(alike):,} different names and shapes: no model has so many")
    rows = (_row(name, shape, dtype, count, layers) for (name, shape, dtype, count), layers in alike.items())
    return tuple(sorted(rows, key=_in_order))


def numbers(ranges: Ranges) -> Iterable[int]:
    return (number for first, last in ranges for number in range(first, last + 1))


def size(ranges: Ranges) -> int:
    return sum(last - first + 1 for first, last in ranges)


def covers(ranges: Ranges, number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)


def runs(values: Iterable[int]) -> Ranges:
    """The values in order, as runs."""
    found: list[list[int]] = []
    for value in sorted(values):
        if found and value == found[-1][1] + 1:
            found[-1][1] = value
        else:
            found.append([value, value])
    return tuple((first, last) for first, last in found)


def below(row: Row, end: int) -> Row | None:
    """The part of a row in the layers before `end`; None if there is none."""
    if row.layers is None:
        return row
    kept = tuple((first, min(last, end - 1)) for first, last in row.layers if first < end)
    return row.but(count=row.count // size(row.layers) * size(kept), layers=kept) if kept else None


def _row(name: str, shape: tuple[int, ...], dtype: str, count: int, layers: list[int | None]) -> Row:
    found = runs(layer for layer in layers if layer is not None)
    return Row(shown(name), dtype, shape, count * len(layers), found or None)


def _in_order(row: Row) -> tuple[object, ...]:
    return (row.name, row.dtype, row.shape, row.count, row.layers or ())


def pattern(name: str) -> tuple[str, int | None]:
    """A name with a `*` for each number, and the first of them."""
    parts, first = name.split("."), None
    for index, part in enumerate(parts):
        if part.isdecimal() and part.isascii() and len(part) <= _LONGEST_NUMBER:
            parts[index] = "*"
            first = int(part) if first is None else first
    return ".".join(parts), first


def shown(name: str) -> str:
    """A name from a file, so that it can be printed and written down."""
    return visible(name[:_LONGEST_NAME])
