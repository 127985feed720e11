"""A language model of mlx_lm with its batch: the one module of the runner that generates with mlx_lm
(0.32.2).

Loaded by the engine's thread and used by it alone: MLX's streams and caches belong to the thread that made
them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import BatchGenerator
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler, make_logits_processors

from mlspec_runtime.generate.job import Step
from mlspec_runtime.generate.messages import MAX_SEED, Sampling
from mlspec_runtime.generate.transcript import Detokenizer

from .runtime_adapters import Adapters

PREFILL_BATCH = 8
SMALLEST = 1e-4
"""Below this, a temperature or a top_p is lost in float32, and what it should choose with it."""
Sampler = Callable[[mx.array], mx.array]


class SeededSampler:
    """Chooses tokens by chance from a random sequence of its own, whatever else is in the batch."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        seed = sampling.seed if sampling.seed is not None else secrets.randbelow(MAX_SEED)
        self._key = mx.random.key(seed)

    def __call__(self, logprobs: mx.array) -> mx.array:
        sampling = self._sampling
        if sampling.top_p < 1.0:
            logprobs = apply_top_p(logprobs, max(sampling.top_p, SMALLEST))
        if sampling.min_p > 0.0:
            logprobs = apply_min_p(logprobs, sampling.min_p)
        if 0 < sampling.top_k < logprobs.shape[-1]:
            logprobs = apply_top_k(logprobs, sampling.top_k)
        self._key, key = mx.random.split(self._key)
        return mx.random.categorical(logprobs * (1.0 / sampling.temperature), key=key)


class MlxLanguageModel:
    """The model, its tokenizer, its adapters and one BatchGenerator."""

    def __init__(self, base: Path, adapters: Mapping[str, Path], *, concurrency: int) -> None:
        loaded = load(str(base))
        self._model, self.tokenizer = loaded[0], loaded[1]
        self._adapters = Adapters(self._model, adapters)
        self._concurrency = concurrency
        self._batch = self._new_batch()

    def _new_batch(self) -> Any:
        return BatchGenerator(
            self._model,
            # Sequences of ids; without them a batch never stops.
            stop_tokens=[[token] for token in sorted(self.tokenizer.eos_token_ids)],
            completion_batch_size=self._concurrency,
            prefill_batch_size=min(PREFILL_BATCH, self._concurrency),
        )

    def select_adapter(self, name: str) -> None:
        self._adapters.select(name)

    def start(self, prompt: Sequence[int], sampling: Sampling) -> int:
        # The greedy sampler is one object: a batch that shares it is sampled in one call.
        sampler: Sampler = greedy_sampler if sampling.temperature < SMALLEST else SeededSampler(sampling)
        penalty = sampling.repetition_penalty
        processors = make_logits_processors(repetition_penalty=penalty) if penalty != 1.0 else []
        rows: list[int] = self._batch.insert(
            [list(prompt)], [sampling.max_tokens], samplers=[sampler], logits_processors=[processors]
        )
        return rows[0]

    def drop(self, rows: Sequence[int]) -> None:
        self._batch.remove(list(rows))

    def step(self) -> list[Step]:
        _, responses = self._batch.next()
        return [Step(r.uid, int(r.token), r.finish_reason) for r in responses]

    def detokenizer(self) -> Detokenizer:
        detokenizer: Detokenizer = self.tokenizer.detokenizer
        return detokenizer

    def reset(self) -> None:
        self._batch.close()
        self._batch = self._new_batch()
        mx.clear_cache()

    def close(self) -> None:
        self._batch.close()
        del self._batch, self._adapters, self._model
        mx.clear_cache()


class PromptEncoder:
    """From a request's text to token ids, as the `mlx_lm.generate` command does it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def has_template(self) -> bool:
        return bool(self._tokenizer.has_chat_template)

    @property
    def probe(self) -> list[int]:
        """One token to generate from."""
        return [min(self._tokenizer.eos_token_ids, default=0)]

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The ids of a conversation and of the start of the answer. Raises ValueError, or what the template
        raises, for messages that the template refuses.
        """
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def text(self, text: str) -> list[int]:
        """The ids of a text as it stands, with the model's first token unless the text begins with it."""
        first = self._tokenizer.bos_token
        return list(self._tokenizer.encode(text, add_special_tokens=first is None or not text.startswith(first)))
