"""Whole fine-tunes of one base (`fine_tune_type: full`): they take the place of the base's own tensors, so all rows
that are computed at once have the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from .runtime_adapter_files import Adapter, check_shape, no_place, tensors
from .runtime_adapter_rows import BASE_PLACE, Place, Selection


class WholeAdapters:
    """The fine-tunes in memory; `show` exchanges tensors. Raises ServiceError if one doesn't fit the base."""

    def __init__(self, model: Any, adapters: Sequence[Adapter], dtype: mx.Dtype | None) -> None:
        self.selection = Selection()
        self._model = model
        self._dtype = dtype
        self._held: dict[int, dict[str, mx.array]] = {}
        self._shown = 0
        model.eval()
        parameters = dict(tree_flatten(model.parameters()))
        for adapter in adapters:
            for name in adapter.shapes:
                if name not in parameters:
                    raise no_place(adapter, name)
                check_shape(adapter, name, parameters[name].shape)
        self._pristine = {name: parameters[name] for adapter in adapters for name in adapter.shapes}

    @property
    def nbytes(self) -> int:
        """What the fine-tunes in memory take beside the base."""
        return sum(tensor.nbytes for held in list(self._held.values()) for tensor in held.values())

    def load(self, adapter: Adapter, slot: int) -> None:
        """Read a fine-tune into a slot, in the place of what is there. Raises ServiceError. No row may be there."""
        self.show(None, 0)
        self._held.pop(slot, None)
        found = tensors(adapter, self._dtype)
        mx.eval(list(found.values()))
        self._held[slot] = found

    def show(self, adapter: Adapter | None, slot: int) -> Place:
        """Make the model generate with the fine-tune in this slot: its tensors, and for all else that any of them
        touches the base's own. The rows have nothing of their own. No row of another may be there.
        """
        if slot != self._shown:
            found = self._held[slot] if slot else {}
            self._model.load_weights(list({**self._pristine, **found}.items()), strict=False)
            self._shown = slot
        return BASE_PLACE
