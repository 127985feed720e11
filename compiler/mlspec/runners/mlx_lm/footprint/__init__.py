"""The memory that a language model takes while it serves: arithmetic alone, held against MLX on a CPU by
`tests/benchmarks/footprint.py`.

A service has its fullest moment when as many sequences as it admits have reached the context length and the last
prompts among them are read. What it takes then is the sum of these parts:

- `weights` and `adapters`: the tensors.
- `kv cache`: what the layers keep of each sequence (mlx_lm `models/cache.py`).
- `prompt cache`: what is kept of earlier prompts.
- `prefill`: what lives for a moment only, while prompts are read or answers computed (`transients`).
- `runtime`: interpreter, libraries and tokenizer, beside MLX's arrays.

All but `runtime` is what MLX counts as active memory. Buffers that MLX has freed and keeps for later are in none of the
parts: they come on top, as much as `set_cache_limit` allows.
"""

from __future__ import annotations

from mlspec.model.plan import MemoryPart
from mlspec.runners.mlx_lm.architecture import Architecture
from mlspec.runners.mlx_lm.footprint.cache import kv_bytes, kv_bytes_per_token, kv_quantizable
from mlspec.runners.mlx_lm.footprint.load import Load
from mlspec.runners.mlx_lm.footprint.transients import transients

__all__ = ["RUNTIME_BYTES", "footprint", "kv_bytes", "kv_bytes_per_token", "kv_quantizable"]

RUNTIME_BYTES = 512 * 2**20
"""Resident beside MLX's arrays and freed buffers when SmolLM2 is served on Linux: 176 MiB in BentoML's worker, 124 in
the processes above it. Rounded up: other tokenizers are larger, and so is Metal's library."""


def footprint(
    architecture: Architecture, weights_bytes: int, adapters_bytes: int, load: Load
) -> tuple[MemoryPart, ...]:
    """What each thing takes at the fullest moment, in bytes; parts that take nothing are there with 0."""
    kept = kv_bytes(architecture, load)
    brief = transients(architecture, load, adapters=adapters_bytes > 0)
    return (
        MemoryPart("weights", weights_bytes, "the model's tensors as they are loaded"),
        MemoryPart("adapters", adapters_bytes, "the adapters' tensors"),
        MemoryPart("kv cache", kept, _kept_rule(load)),
        MemoryPart("prompt cache", load.prompt_cache_bytes, "kept of earlier prompts"),
        MemoryPart("prefill", brief.bytes, brief.rule),
        MemoryPart("runtime", RUNTIME_BYTES, "interpreter, libraries and tokenizer, measured and rounded up"),
    )


def _kept_rule(load: Load) -> str:
    sequences = "one sequence" if load.concurrency == 1 else f"{load.concurrency} sequences"
    bits = f" at {load.kv_bits} bits" if load.kv_bits else ""
    return f"what the layers keep of {sequences} of {load.context_length} tokens{bits}"
