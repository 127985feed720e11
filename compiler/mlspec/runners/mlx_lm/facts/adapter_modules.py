"""The modules that a low-rank adapter adapts, by the rows of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from mlspec.runners.mlx_lm.facts.adapter_config import LEAVES
from mlspec.runners.mlx_lm.tensor_table import Row, numbers, size

Place = tuple[str, int | None]
"""A module's name, with a `*` for each number in it, and the first of those numbers."""

FACTOR_BYTES = 4
"""DoRA's factor of an output, which the service computes of the magnitude, is of 32 bits."""

ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Leaf:
    """One tensor of a module; `count` modules have further numbers in their names."""

    shape: tuple[int, ...]
    dtype: str
    count: int


Modules = Mapping[Place, Mapping[str, Leaf]]


def modules(rows: Iterable[Row]) -> Modules:
    """The tensors of each module, by the last part of their names."""
    found: dict[Place, dict[str, Leaf]] = {}
    for row in rows:
        path, _, leaf = row.name.rpartition(".")
        each = row.count // (size(row.layers) if row.layers else 1)
        for number in (None,) if row.layers is None else numbers(row.layers):
            found.setdefault((path, number), {})[leaf] = Leaf(row.shape, row.dtype, each)
    return found


def unpaired(kind: str, rows: Iterable[Row]) -> str | None:
    """A tensor that a module of the adapter should have beside those that it has; None if there is none."""
    for (path, number), leaves in modules(rows).items():
        lacking = LEAVES[kind] - leaves.keys()
        if lacking:
            named = path if number is None else path.replace("*", str(number), 1)
            return f"{named}.{min(lacking)}"
    return None


def slot_bytes(adapters: Sequence[Modules], element_bytes: int | None) -> int:
    """What one slot takes into which each of these adapters fits: for each module the largest rank, with zeros behind
    a smaller one. Elements of `element_bytes`; None: as they are stored, of 32 bits where the adapters differ.
    """
    beside: dict[tuple[Place, str], list[Leaf]] = {}
    for adapter in adapters:
        for place, leaves in adapter.items():
            for name, leaf in leaves.items():
                beside.setdefault((place, name), []).append(leaf)
    return sum(_bytes(name, leaves, element_bytes) for (_, name), leaves in beside.items())


def _bytes(name: str, leaves: Sequence[Leaf], element_bytes: int | None) -> int:
    largest: list[int] = [max(lengths) for lengths in zip(*(leaf.shape for leaf in leaves), strict=False)]
    dtypes = {leaf.dtype for leaf in leaves}
    stored = ELEMENT_BYTES.get(dtypes.pop(), FACTOR_BYTES) if len(dtypes) == 1 else FACTOR_BYTES
    each = FACTOR_BYTES if name == "m" else element_bytes or stored
    return prod(largest) * leaves[0].count * each
