"""Which adapter each row of a batch has: it travels with the row's caches, so that the order of rows is never guessed.

mlx_lm's `BatchGenerator` merges, filters, extends and takes apart the caches of its rows by methods that every cache
has. `AdapterRows` has them, too, and stands behind the caches of the layers; `AdaptedModel` takes it off again before
the model is called, and tells the adapted layers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache


@dataclass(frozen=True)
class Place:
    """Where an adapter is: its slot in the layers' tensors, and what its products are multiplied by."""

    slot: int = 0
    scale: float = 0.0


BASE_PLACE = Place()
"""The model without an adapter: slot 0, where all is zero."""


class Rows:
    """The places of the rows that the model computes at once."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)
        self.slots = frozenset(place.slot for place in places)
        self.one = self.places[0] if len(self.slots) == 1 else None
        """The place that all of them have, if it is one."""

        self._made: dict[tuple[mx.Dtype, int, int], mx.array] = {}

    def index(self, count: int, dimensions: int = 1) -> mx.array:
        """The slot of each of `count` rows, [rows, 1, ...]: some families make a row of each token, one sequence after
        another.
        """
        return self._each([place.slot for place in self.places], mx.uint32, count, dimensions)

    def scales(self, z: mx.array) -> mx.array:
        """What the products `z` of each row [rows, ..., outputs] are multiplied by, in their own type."""
        return self._each([place.scale for place in self.places], z.dtype, z.shape[0], z.ndim)

    def _each(self, values: list[Any], dtype: mx.Dtype, count: int, dimensions: int) -> mx.array:
        if count % len(values):
            raise ValueError(f"a layer has {count} rows, the batch {len(values)}")
        key = (dtype, count, dimensions)
        if key not in self._made:
            each = mx.repeat(mx.array(values, dtype=dtype), count // len(values))
            self._made[key] = each.reshape(-1, *[1] * (dimensions - 1))
        return self._made[key]


NO_ROWS = Rows([BASE_PLACE])
"""Outside of a batch the model has no adapter."""


class Selection:
    """The rows that the model computes now. The adapted layers of one model share it."""

    def __init__(self) -> None:
        self.rows = NO_ROWS


class AdapterRows:
    """The places of a batch's rows, with the methods of mlx_lm's caches that a batch calls. It holds no tensor."""

    state: tuple[()] = ()
    nbytes = 0

    def __init__(self, places: Sequence[Place]) -> None:
        self.rows = Rows(places)

    def __deepcopy__(self, memo: object) -> AdapterRows:
        # A batch is copied before it is split; `rows` is never changed, only exchanged.
        return copy.copy(self)

    @classmethod
    def merge(cls, parts: Sequence[AdapterRows]) -> AdapterRows:
        return cls([place for part in parts for place in part.rows.places])

    def extend(self, other: AdapterRows) -> None:
        self.rows = Rows([*self.rows.places, *other.rows.places])

    def filter(self, keep: Sequence[int]) -> None:
        self.rows = Rows([self.rows.places[index] for index in keep])

    def extract(self, index: int) -> AdapterRows:
        return AdapterRows([self.rows.places[index]])

    def prepare(self, **padding: Any) -> None:
        """Padding changes no row's adapter."""

    def finalize(self) -> None:
        """Nor does its end."""

    def size(self) -> int:
        return 0

    def empty(self) -> bool:
        return True

    def is_trimmable(self) -> bool:
        return True

    def trim(self, tokens: int) -> int:
        return tokens


class AdaptedModel:
    """A model as mlx_lm generates with it: the last of the caches that it is called with is an `AdapterRows`."""

    def __init__(self, model: Any, selection: Selection) -> None:
        self._model = model
        self._selection = selection

    def __call__(self, inputs: mx.array, cache: Sequence[Any], **rest: Any) -> mx.array:
        *layers, rows = cache
        self._selection.rows = rows.rows
        try:
            logits: mx.array = self._model(inputs, cache=layers, **rest)
        finally:
            self._selection.rows = NO_ROWS
        return logits

    def make_cache(self, place: Place = BASE_PLACE) -> list[Any]:
        """Empty caches of one sequence that has the adapter of this place."""
        return with_place(make_prompt_cache(self._model), place)


def with_place(layers: Sequence[Any], place: Place) -> list[Any]:
    """What the layers keep of one sequence, and its adapter behind it."""
    return [*layers, AdapterRows([place])]


def without_place(caches: Sequence[Any]) -> list[Any]:
    """What the layers keep alone."""
    return list(caches[:-1])
