"""The plan's settings of this runner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mlspec_runtime.generate.messages import Sampling
from mlspec_runtime.mlx.memory import MemoryLimits


@dataclass(frozen=True)
class PlannedMemory(MemoryLimits):
    """With what they were derived from: `request_bytes` is the cache of one request of the whole context, `fixed_bytes`
    all else (weights, adapters, prompt cache, prefill). None: not known when it was planned.
    """

    fixed_bytes: int | None = None
    request_bytes: int | None = None


@dataclass(frozen=True)
class Settings:
    """`preload_blas` is a shared library to load before MLX; `dtype` is what floating weights are cast to, those that
    unpack quantized ones too; `kv_bits` quantizes the key-value cache; prompts are read `prefill_step` tokens at a
    time; `prompt_cache_bytes` are kept of earlier requests for prompts that begin alike; `chat_template` is the path of
    a Jinja file below the bundle, in place of the model's own; `system_prompt` begins each conversation that has none.
    `adapter_slots` adapters are in memory at most, those of `preload` from the start. None: all.
    """

    context_length: int
    adapters: tuple[str, ...]
    default_adapter: str
    preload_blas: str | None
    sampling: Sampling
    dtype: Literal["float32"] | None = None
    prefill_step: int = 2048
    kv_bits: Literal[4, 8] | None = None
    prompt_cache_bytes: int = 0
    memory: PlannedMemory = field(default_factory=PlannedMemory)
    chat_template: str | None = None
    system_prompt: str | None = None
    adapter_slots: int | None = None
    preload: tuple[str, ...] | None = None
