"""A language model of mlx_lm (0.32.2) that generates in batches.

Its kin, `runtime_sequences`, has no batch but a quantized cache, which mlx_lm has for single sequences alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator

from mlspec_runtime.generate.job import Started, Step
from mlspec_runtime.generate.messages import Sampling, TokenLogprobs
from mlspec_runtime.generate.transcript import Detokenizer
from mlspec_runtime.mlx.memory import memory_bytes

from .runtime_adapter_rows import Place, with_place, without_place
from .runtime_loaded import LoadedModel
from .runtime_logprobs import token_logprobs
from .runtime_prefixes import Prefix, Prefixes
from .runtime_sampling import processors_of, sampler_of

PREFILL_BATCH = 8


@dataclass(frozen=True)
class _Row:
    adapter: str
    sampling: Sampling


class BatchedModel:
    """A loaded model and one BatchGenerator. `prompt_cache_bytes` 0 keeps nothing of earlier requests."""

    def __init__(
        self, loaded: LoadedModel, *, concurrency: int, prefill_step: int, prompt_cache_bytes: int = 0
    ) -> None:
        self._loaded = loaded
        self._adapters = loaded.adapters
        self._concurrency = concurrency
        self._prefill_step = prefill_step
        self._prefixes = Prefixes(prompt_cache_bytes) if prompt_cache_bytes else None
        self._rows: dict[int, _Row] = {}
        self._ended: list[tuple[str, Sequence[int], list[Any]]] = []
        self._batch = self._new_batch()

    def _new_batch(self) -> Any:
        batch = BatchGenerator(
            self._adapters.model,
            # Sequences of ids; without them a batch never stops.
            stop_tokens=[[token] for token in self._loaded.stop_tokens],
            completion_batch_size=self._concurrency,
            prefill_batch_size=min(PREFILL_BATCH, self._concurrency),
            prefill_step_size=self._prefill_step,
        )
        self._loaded.wire()
        return batch

    def admits(self, adapter: str) -> bool:
        return self._adapters.admits(adapter)

    def start(self, prompt: Sequence[int], sampling: Sampling, adapter: str) -> Started:
        place = self._adapters.enter(adapter)
        try:
            prefix = self._prefixes.find(adapter, prompt) if self._prefixes else None
            row = self._insert(prompt, sampling, place, prefix)
        # Whatever it was goes on; the place would stay taken.
        except BaseException:
            self._adapters.leave(adapter)
            raise
        self._rows[row] = _Row(adapter, sampling)
        return Started(row, len(prefix.tokens) if prefix else 0)

    def _insert(self, prompt: Sequence[int], sampling: Sampling, place: Place, prefix: Prefix | None) -> int:
        known = len(prefix.tokens) if prefix else 0
        rows: list[int] = self._batch.insert(
            [list(prompt[known:])],
            [sampling.max_tokens],
            caches=[with_place(prefix.layers, place) if prefix else self._adapters.model.make_cache(place)],
            all_tokens=[prefix.tokens if prefix else []],
            samplers=[sampler_of(sampling)],
            logits_processors=[processors_of(sampling)],
        )
        return rows[0]

    def drop(self, rows: Sequence[int]) -> None:
        self._batch.remove(list(rows))
        for row in rows:
            self._adapters.leave(self._rows.pop(row).adapter)

    def step(self) -> list[Step]:
        _, responses = self._batch.next()
        return [self._step(response) for response in responses]

    def _step(self, response: Any) -> Step:
        row = self._rows[response.uid]
        if response.finish_reason is not None:
            del self._rows[response.uid]
            self._adapters.leave(row.adapter)
            if self._prefixes is not None:
                self._ended.append((row.adapter, response.all_tokens, without_place(response.prompt_cache)))
        return Step(response.uid, int(response.token), response.finish_reason, self._logprobs(response, row.sampling))

    def _logprobs(self, response: Any, sampling: Sampling) -> TokenLogprobs | None:
        if sampling.logprobs is None:
            return None
        return token_logprobs(response.logprobs, int(response.token), sampling.logprobs, self._loaded.tokenizer)

    def settle(self) -> None:
        # Copying what is kept waits for the next step, which is computed already.
        ended, self._ended = self._ended, []
        for adapter, tokens, layers in ended:
            if self._prefixes is not None:
                self._prefixes.keep(adapter, tokens, layers)

    def read_prompts_by(self, tokens: int) -> None:
        # A public attribute that it reads at each step; prompts that are half read go on with it.
        self._batch.prefill_step_size = min(tokens, self._prefill_step)

    def detokenizer(self) -> Detokenizer:
        return self._loaded.detokenizer()

    def memory_bytes(self) -> Mapping[str, int]:
        kept = self._prefixes.size_bytes if self._prefixes else 0
        return {**memory_bytes(mx), "prompt_cache": kept, "adapters": self._adapters.nbytes}

    def counts(self) -> Mapping[str, int]:
        return {**self._adapters.counts(), **(self._prefixes.counts() if self._prefixes else {})}

    def reset(self) -> None:
        self._batch.close()
        self._rows.clear()
        self._ended.clear()
        self._adapters.leave_all()
        # Whatever failed may have failed in what is kept.
        if self._prefixes is not None:
            self._prefixes.clear()
        self._batch = self._new_batch()
        mx.clear_cache()

    def close(self) -> None:
        self._batch.close()
        self._ended.clear()
        del self._batch
        if self._prefixes is not None:
            self._prefixes.clear()
        self._loaded.close()
