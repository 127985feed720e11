"""The adapters of one base model: which a new request may have, which are in memory, and how fast they get there."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx

from .runtime_adapter_files import FULL, Adapter, misfit, outline
from .runtime_adapter_rows import AdaptedModel, Place
from .runtime_mixing import why_not_mixed
from .runtime_slots import Slots
from .runtime_stacked import StackedAdapters
from .runtime_whole import WholeAdapters

LOG = logging.getLogger("mlspec.mlx_lm")


class Adapters:
    """The adapters of `model`, by name; "base" is none. At most `slots` (None: all) are in memory at once, those of
    `preload` from the start (None: as many as there are slots). Their tensors are cast to `dtype`, if one is given.
    Used by the engine's thread alone, but for the figures.
    """

    def __init__(
        self,
        model: Any,
        folders: Mapping[str, Path],
        *,
        slots: int | None = None,
        preload: Sequence[str] | None = None,
        dtype: mx.Dtype | None = None,
    ) -> None:
        self._adapters = {name: outline(name, folder) for name, folder in folders.items()}
        count = len(folders) if slots is None else min(max(slots, 1), len(folders))
        self._into = _room(model, list(self._adapters.values()), count, dtype)
        self.model = AdaptedModel(model, self._into.selection)
        """What generates."""
        self._slots = Slots(count, mixing=self._mixes())
        self.loads, self._loading_s = 0, 0.0
        for name in list(folders if preload is None else preload)[:count]:
            self._slots.put(name, partial(self._load, name))

    def _mixes(self) -> bool:
        why_not = ""
        if isinstance(self._into, WholeAdapters):
            why_not = "they are whole fine-tunes"
        elif self._adapters:
            why_not = why_not_mixed(self.model, self._into)
        if why_not:
            LOG.info("requests for different adapters wait for each other: %s", why_not)
        return not why_not

    @property
    def mixing(self) -> bool:
        """Whether rows of different adapters can be computed at once."""
        return self._slots.mixing

    def admits(self, name: str) -> bool:
        """Whether a request for this adapter may join the rows that are there. Always where there are none."""
        return self._slots.admits(name)

    def enter(self, name: str) -> Place:
        """One row more of this adapter, which is loaded if it isn't in memory. Raises ServiceError."""
        slot = self._slots.enter(name, partial(self._load, name))
        return self._into.show(self._adapters.get(name), slot)

    def leave(self, name: str) -> None:
        """One row less."""
        self._slots.leave(name)

    def leave_all(self) -> None:
        """No row is there any more."""
        self._slots.leave_all()

    def _load(self, name: str, slot: int) -> None:
        began_at = time.perf_counter()
        self._into.load(self._adapters[name], slot)
        took_s = time.perf_counter() - began_at
        self.loads, self._loading_s = self.loads + 1, self._loading_s + took_s
        LOG.info("adapter '%s' loaded in %.0f ms", name, 1000 * took_s)

    @property
    def nbytes(self) -> int:
        """What they take in memory. From any thread."""
        return self._into.nbytes

    def counts(self) -> dict[str, int]:
        """Adapters that were loaded since the start, and how long that took in all. From any thread."""
        return {"adapter_loads": self.loads, "adapter_loading_ms": round(1000 * self._loading_s)}


def _room(
    model: Any, adapters: Sequence[Adapter], slots: int, dtype: mx.Dtype | None
) -> StackedAdapters | WholeAdapters:
    """Where the adapters are. Raises ServiceError if some are whole fine-tunes and others not, or one doesn't fit."""
    kinds = {adapter.kind for adapter in adapters}
    if FULL in kinds and len(kinds) > 1:
        told = ", ".join(f"{adapter.name} is {adapter.kind}" for adapter in adapters)
        raise misfit(f"one service can't have whole fine-tunes and low-rank adapters ({told})")
    return WholeAdapters(model, adapters, dtype) if FULL in kinds else StackedAdapters(model, adapters, slots, dtype)
