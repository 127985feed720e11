"""What a service asks of the memory: the values that the planner chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Load:
    """`concurrency` sequences of `context_length` tokens each at once, prompts read `prefill_step` tokens at a time.

    `element_bytes` is the size of an activation and of an unquantized cache element (2 for 16 bits, 4 for float32);
    `kv_bits` 4 or 8 quantizes the cache in groups of 64, None doesn't. `prompt_cache_bytes` is kept for prefixes.
    """

    concurrency: int
    context_length: int
    prefill_step: int
    element_bytes: int
    accelerator: Literal["metal", "cpu", "cuda12", "cuda13"]
    kv_bits: int | None = None
    prompt_cache_bytes: int = 0
