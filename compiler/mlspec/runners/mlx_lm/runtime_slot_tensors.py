"""The tensors of one layer's adapters: a slot for each, one behind the other in one array."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from .runtime_adapter_rows import Rows


@dataclass(frozen=True)
class Room:
    """What the tensors of one layer are made for: `slots` adapters beside the base, of at most this rank. With
    `magnitudes`, some of them are DoRA's.
    """

    slots: int
    rank: int
    dtype: mx.Dtype
    magnitudes: bool = False


class Tensors:
    """The tensors of one layer's adapters. `a` and `b` are [slots, ...], as mlx_lm has them of one adapter."""

    def __init__(self, room: Room, a: tuple[int, ...], b: tuple[int, ...], outputs: int) -> None:
        self.held: set[int] = set()
        """Slots whose adapter changes this layer."""
        self._a = mx.zeros((room.slots + 1, *a), room.dtype)
        self._b = mx.zeros((room.slots + 1, *b), room.dtype)
        self._factor = mx.ones((room.slots + 1, outputs)) if room.magnitudes else None
        self._views: dict[int, tuple[mx.array, mx.array]] = {}
        self._factors: dict[int, mx.array] = {}

    @property
    def arrays(self) -> list[mx.array]:
        """All of them."""
        return [self._a, self._b] if self._factor is None else [self._a, self._b, self._factor]

    def put(self, slot: int, a: mx.array, b: mx.array, factor: mx.array | None) -> None:
        """Put an adapter's tensors into a slot, filled up with zeros to the rank that there is room for."""
        self._forget()
        self._a[slot] = _padded(a, self._a.shape[1:])
        self._b[slot] = _padded(b, self._b.shape[1:])
        if self._factor is not None:
            self._factor[slot] = 1.0 if factor is None else factor
        self.held.add(slot)

    def clear(self, slot: int) -> None:
        """Make the slot's adapter one that doesn't change this layer."""
        if slot in self.held:
            self._forget()
            self.held.remove(slot)
            self._a[slot], self._b[slot] = 0.0, 0.0
            if self._factor is not None:
                self._factor[slot] = 1.0

    def _forget(self) -> None:
        # While there are views MLX would copy all slots to change one.
        self._views.clear()
        self._factors.clear()

    def of(self, slot: int) -> tuple[mx.array, mx.array]:
        """The two matrices of one slot."""
        if slot not in self._views:
            self._views[slot] = (self._a[slot], self._b[slot])
        return self._views[slot]

    @property
    def all(self) -> tuple[mx.array, mx.array]:
        """The matrices of all slots."""
        return self._a, self._b

    def factor(self, rows: Rows) -> mx.array | None:
        """What the outputs are multiplied by: of one place [outputs], of several [slots, outputs]."""
        if self._factor is None:
            return None
        if rows.one is None:
            return self._factor
        slot = rows.one.slot
        if slot not in self._factors:
            self._factors[slot] = self._factor[slot]
        return self._factors[slot]


def _padded(tensor: mx.array, shape: tuple[int, ...]) -> mx.array:
    missing = [(0, wanted - length) for wanted, length in zip(shape, tensor.shape, strict=True)]
    return mx.pad(tensor, missing) if any(after for _, after in missing) else tensor
