"""A language model of mlx_lm (0.32.2) that generates in batches.

Its kin, `runtime_sequences`, has no batch but a quantized cache, which mlx_lm has for single sequences alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from mlspec_runtime.generate.job import Started, Step
from mlspec_runtime.generate.messages import Sampling
from mlspec_runtime.generate.transcript import Detokenizer

from .runtime_loaded import LoadedModel, memory_bytes
from .runtime_prefixes import Prefixes
from .runtime_sampling import processors_of, sampler_of

PREFILL_BATCH = 8


class BatchedModel:
    """A loaded model and one BatchGenerator. `prompt_cache_bytes` 0 keeps nothing of earlier requests."""

    def __init__(
        self, loaded: LoadedModel, *, concurrency: int, prefill_step: int, prompt_cache_bytes: int = 0
    ) -> None:
        self._loaded = loaded
        self._concurrency = concurrency
        self._prefill_step = prefill_step
        self._adapter = "base"
        self._rows: set[int] = set()
        self._prefixes = Prefixes(prompt_cache_bytes) if prompt_cache_bytes else None
        self._batch = self._new_batch()

    def _new_batch(self) -> Any:
        batch = BatchGenerator(
            self._loaded.model,
            # Sequences of ids; without them a batch never stops.
            stop_tokens=[[token] for token in self._loaded.stop_tokens],
            completion_batch_size=self._concurrency,
            prefill_batch_size=min(PREFILL_BATCH, self._concurrency),
            prefill_step_size=self._prefill_step,
        )
        self._loaded.wire()
        return batch

    def admits(self, adapter: str) -> bool:
        return adapter == self._adapter or not self._rows

    def start(self, prompt: Sequence[int], sampling: Sampling, adapter: str) -> Started:
        if adapter != self._adapter:
            self._loaded.adapters.select(adapter)
            self._adapter = adapter
        prefix = self._prefixes.find(self._adapter, prompt) if self._prefixes else None
        known = len(prefix.tokens) if prefix else 0
        rows: list[int] = self._batch.insert(
            [list(prompt[known:])],
            [sampling.max_tokens],
            caches=[prefix.layers if prefix else None],
            all_tokens=[prefix.tokens if prefix else []],
            samplers=[sampler_of(sampling)],
            logits_processors=[processors_of(sampling)],
        )
        self._rows.add(rows[0])
        return Started(rows[0], known)

    def drop(self, rows: Sequence[int]) -> None:
        self._batch.remove(list(rows))
        self._rows.difference_update(rows)

    def step(self) -> list[Step]:
        _, responses = self._batch.next()
        for response in responses:
            if self._prefixes is not None and response.finish_reason is not None:
                self._prefixes.keep(self._adapter, response.all_tokens, response.prompt_cache)
        self._rows.difference_update(r.uid for r in responses if r.finish_reason is not None)
        return [Step(r.uid, int(r.token), r.finish_reason) for r in responses]

    def read_prompts_by(self, tokens: int) -> None:
        # A public attribute that it reads at each step; prompts that are half read go on with it.
        self._batch.prefill_step_size = min(tokens, self._prefill_step)

    def detokenizer(self) -> Detokenizer:
        return self._loaded.detokenizer()

    def memory_bytes(self) -> Mapping[str, int]:
        return {**memory_bytes(), "prompt_cache": self._prefixes.size_bytes if self._prefixes else 0}

    def reset(self) -> None:
        self._batch.close()
        self._rows.clear()
        # Whatever failed may have failed in what is kept.
        if self._prefixes is not None:
            self._prefixes.clear()
        self._batch = self._new_batch()
        mx.clear_cache()

    def close(self) -> None:
        self._batch.close()
        del self._batch
        if self._prefixes is not None:
            self._prefixes.clear()
        self._loaded.close()
