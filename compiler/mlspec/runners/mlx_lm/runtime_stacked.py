"""Low-rank adapters of one model side by side: each adapted layer has a slot for each, so rows of different adapters
are computed in one batch, and another adapter costs nothing but the copy of its tensors into a slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_unflatten

from .runtime_adapted_layers import Adapted, adapted_class
from .runtime_adapter_files import LEAVES, LORA_A, LORA_B, Adapter, check_shape, misfit, no_place, tensors
from .runtime_adapter_rows import BASE_PLACE, Place, Selection
from .runtime_slot_tensors import Room

MODULES_AT_ONCE = 16
"""So many layers' tensors are on their way into a slot at once, beside those that are there."""


class StackedAdapters:
    """The adapted layers of a model, which are wrapped once. Raises ServiceError if an adapter doesn't fit the base."""

    def __init__(self, model: Any, adapters: Sequence[Adapter], slots: int, dtype: mx.Dtype | None) -> None:
        self.selection = Selection()
        self._dtype = dtype
        self._layers: dict[str, Adapted] = {}
        modules = dict(model.named_modules())
        for path in sorted(set().union(*(adapter.modules for adapter in adapters))):
            touching = [adapter for adapter in adapters if path in adapter.modules]
            self._layers[path] = self._adapted(path, modules.get(path), touching, slots)
        if self._layers:
            model.update_modules(tree_unflatten(list(self._layers.items())))
        model.eval()
        mx.eval([layer.tensors.arrays for layer in self._layers.values()])

    def _adapted(self, path: str, module: Any, adapters: Sequence[Adapter], slots: int) -> Adapted:
        make = adapted_class(module)
        if make is None:
            raise no_place(adapters[0], f"{path}.{min(adapters[0].modules[path])}")
        shapes = make.shapes(module)
        for adapter in adapters:
            _check_fit(adapter, path, shapes)
        dtypes = {self._dtype or adapter.dtypes[f"{path}.{leaf}"] for adapter in adapters for leaf in (LORA_A, LORA_B)}
        room = Room(
            slots=slots,
            rank=max(_rank(adapter, path, LORA_A, shapes) for adapter in adapters),
            dtype=dtypes.pop() if len(dtypes) == 1 else mx.float32,
            magnitudes=any(adapter.kind == "dora" for adapter in adapters),
        )
        return make(module, self.selection, room)

    @property
    def can_mix(self) -> bool:
        """Whether every layer can compute rows of different adapters at once."""
        return all(layer.can_mix for layer in self._layers.values())

    @property
    def nbytes(self) -> int:
        """What the tensors of all slots take."""
        return sum(array.nbytes for layer in self._layers.values() for array in layer.tensors.arrays)

    def load(self, adapter: Adapter, slot: int) -> None:
        """Put an adapter's tensors into a slot. Raises ServiceError."""
        found = tensors(adapter, self._dtype)
        given = {
            path: {leaf: found.pop(f"{path}.{leaf}") for leaf in leaves} for path, leaves in adapter.modules.items()
        }
        self.put(slot, adapter.scale, given)

    def show(self, adapter: Adapter | None, slot: int) -> Place:
        """What the rows of an adapter in this slot have; None: of the base."""
        return BASE_PLACE if adapter is None else Place(slot, adapter.scale)

    def put(self, slot: int, scale: float, given: dict[str, dict[str, mx.array]]) -> None:
        """Put tensors into a slot, by the path of the layer; what is not given is as the base has it. They are taken
        out of `given`, so that they aren't in memory twice.
        """
        changed: list[mx.array] = []
        for count, (path, layer) in enumerate(self._layers.items(), 1):
            if path in given:
                layer.put(slot, scale, given.pop(path))
            else:
                layer.tensors.clear(slot)
            changed += layer.tensors.arrays
            if count % MODULES_AT_ONCE == 0:
                mx.eval(changed)
                changed.clear()
        mx.eval(changed)

    def shapes(self) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
        """Of one slot of each layer: the shapes of its two matrices."""
        pairs = {path: layer.tensors.all for path, layer in self._layers.items()}
        return {path: (tuple(a.shape[1:]), tuple(b.shape[1:])) for path, (a, b) in pairs.items()}


Shapes = Mapping[str, tuple[int | None, ...]]


def _check_fit(adapter: Adapter, path: str, wanted: Shapes) -> None:
    given, leaves = adapter.modules[path], LEAVES[adapter.kind]
    for leaf in given:
        if leaf not in leaves or leaf not in wanted:
            raise no_place(adapter, f"{path}.{leaf}")
    for leaf in leaves:
        if leaf not in given:
            raise misfit(f"adapter '{adapter.name}' has no tensor {path}.{leaf}")
        check_shape(adapter, f"{path}.{leaf}", wanted[leaf])
    if _rank(adapter, path, LORA_A, wanted) != _rank(adapter, path, LORA_B, wanted):
        raise misfit(f"adapter '{adapter.name}': {path}.{LORA_A} and {LORA_B} are of different ranks")


def _rank(adapter: Adapter, path: str, leaf: str, wanted: Shapes) -> int:
    return adapter.modules[path][leaf][wanted[leaf].index(None)]
