"""Keys and values of earlier requests, for prompts that begin alike: conversations, and long instructions.

mlx_lm's own `LRUPromptCache` is not used: looking a prompt up walks every token of every entry in copies that grow with
it, 0.7 s for ten entries of 8,000 tokens and 11 s for 32,000, in which the whole batch would stand still.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache

MIN_TOKENS = 16
"""Fewer are not worth the copy; every conversation begins with some tokens of its template."""


@dataclass(eq=False, frozen=True)
class _Entry:
    adapter: str
    tokens: Sequence[int]
    layers: list[Any]
    size_bytes: int


@dataclass(frozen=True)
class Prefix:
    """The first `tokens` of a prompt and what the layers keep of them."""

    tokens: list[int]
    layers: list[Any]


class Prefixes:
    """At most `max_bytes` of them; the one that was used longest ago goes first. Used by the engine's thread alone."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: list[_Entry] = []
        self.size_bytes = 0
        self._hits, self._misses = 0, 0

    def find(self, adapter: str, prompt: Sequence[int]) -> Prefix | None:
        """The longest beginning of this prompt that is known for this adapter, its last token excepted."""
        found = [(_usable(entry, prompt), entry) for entry in self._entries if entry.adapter == adapter]
        count, entry = max(found, key=lambda pair: pair[0], default=(0, None))
        if entry is None or count < MIN_TOKENS:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.remove(entry)
        self._entries.append(entry)
        layers = copy.deepcopy(entry.layers)
        if count < len(entry.tokens):
            trim_prompt_cache(layers, len(entry.tokens) - count)
        return Prefix(list(prompt[:count]), layers)

    def keep(self, adapter: str, tokens: Sequence[int], layers: list[Any]) -> None:
        """Take what the layers keep of a sequence. What it continues is dropped, if it can be cut back to that."""
        # They may be views into the whole batch, which would stay in memory with them.
        mx.eval([layer.state for layer in layers])
        size_bytes = sum(layer.nbytes for layer in layers)
        if size_bytes > self._max_bytes:
            return
        if can_trim_prompt_cache(layers):
            self._drop_beginnings(adapter, tokens)
        self._entries.append(_Entry(adapter, tuple(tokens), layers, size_bytes))
        self.size_bytes += size_bytes
        while self.size_bytes > self._max_bytes:
            self._drop(self._entries[0])

    def _drop_beginnings(self, adapter: str, tokens: Sequence[int]) -> None:
        for entry in list(self._entries):
            if entry.adapter == adapter and common(entry.tokens, tokens) == len(entry.tokens):
                self._drop(entry)

    def _drop(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self.size_bytes -= entry.size_bytes

    def counts(self) -> dict[str, int]:
        """Prompts since the start that began as an earlier one, and those that didn't. From any thread."""
        return {"prefix_hits": self._hits, "prefix_misses": self._misses}

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()
        self.size_bytes = 0


def _usable(entry: _Entry, prompt: Sequence[int]) -> int:
    """How many tokens of the prompt the entry saves; the last one is always computed, for what follows it."""
    count = min(common(entry.tokens, prompt), len(prompt) - 1)
    whole = count == len(entry.tokens)
    return count if whole or can_trim_prompt_cache(entry.layers) else 0


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the beginning that both share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))
