"""A language model of mlx_lm (0.32.2) with a quantized key-value cache: sequence by sequence, a token of each in turn.

mlx_lm's quantized cache is for one sequence. Each request is generated exactly as `mlx_lm.generate --kv-bits` with
`--quantized-kv-start 0` does it, with its prompt read in steps between those of the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step, generation_stream, maybe_quantize_kv_cache
from mlx_lm.models.cache import QuantizedKVCache

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.job import Started, Step
from mlspec_runtime.generate.messages import FinishReason, Sampling
from mlspec_runtime.generate.transcript import Detokenizer
from mlspec_runtime.mlx.memory import memory_bytes

from .runtime_adapter_rows import BASE_PLACE, AdaptedModel, Place
from .runtime_loaded import LoadedModel
from .runtime_logprobs import token_logprobs
from .runtime_sampling import LogitsProcessor, processors_of, sampler_of

KV_GROUP = 64
_quantize: Any = maybe_quantize_kv_cache
PROBE_TOKENS = 5
"""Two steps of two tokens, then one by one: each way in which a model meets its cache."""


class Generation:
    """One request: its prompt is read by `read`, then `next_token` gives the answer."""

    def __init__(
        self, model: AdaptedModel, prompt: Sequence[int], sampling: Sampling, kv_bits: int, place: Place = BASE_PLACE
    ) -> None:
        self._model = model
        self._prompt = mx.array(list(prompt))
        self.sampling = sampling
        self._kv_bits = kv_bits
        self.layers: list[Any] = model.make_cache(place)
        self._read = 0
        self._answer: Generator[Any, None, None] | None = None
        self.left = sampling.max_tokens

    @property
    def is_read(self) -> bool:
        """All of the prompt but its last token, with which the answer begins."""
        return self._read == self._prompt.size - 1

    def read(self, tokens: int) -> None:
        """Read at most so many tokens more."""
        end = min(self._read + tokens, self._prompt.size - 1)
        with mx.stream(generation_stream):
            self._model(self._prompt[self._read : end][None], cache=self.layers)
            _quantize(self.layers, 0, KV_GROUP, self._kv_bits)
            mx.eval([layer.state for layer in self.layers])
            mx.clear_cache()
        self._read = end

    def next_token(self) -> tuple[int, mx.array]:
        """The next token of the answer and the log probabilities of all; `left` is how many may follow."""
        if self._answer is None:
            self._answer = self._begin()
        token, logprobs = next(self._answer)
        self.left -= 1
        return int(token), logprobs

    def close(self) -> None:
        """End it, on the thread that began it: `generate_step` stands within a stream of that thread."""
        if self._answer is not None:
            self._answer.close()

    def _begin(self) -> Generator[Any, None, None]:
        before = self._prompt[:-1]
        return generate_step(
            self._prompt[-1:],
            self._model,
            max_tokens=self.sampling.max_tokens,
            sampler=sampler_of(self.sampling),
            logits_processors=[_after(before, processor) for processor in processors_of(self.sampling)],
            prompt_cache=self.layers,
            kv_bits=self._kv_bits,
            kv_group_size=KV_GROUP,
            quantized_kv_start=0,
        )


def _after(before: mx.array, processor: LogitsProcessor) -> LogitsProcessor:
    """A processor that sees the tokens `before`, too: `generate_step` knows those alone that it is given."""
    return lambda tokens, logits: processor(mx.concatenate([before, tokens]), logits)


class SequencesModel:
    """A loaded model and its sequences. Raises ServiceError as it is made if the model's cache can't be quantized."""

    def __init__(self, loaded: LoadedModel, *, kv_bits: int, prefill_step: int) -> None:
        self._loaded = loaded
        self._adapters = loaded.adapters
        self._kv_bits = kv_bits
        self._most = self._prefill_step = prefill_step
        self._sequences: dict[int, Generation] = {}
        self._adapter_of: dict[int, str] = {}
        self._ids = itertools.count()
        self._stops = frozenset(loaded.stop_tokens)
        _check_quantizable(loaded.adapters.model, kv_bits)
        loaded.wire()

    def admits(self, adapter: str) -> bool:
        return self._adapters.admits(adapter)

    def start(self, prompt: Sequence[int], sampling: Sampling, adapter: str) -> Started:
        place, row = self._adapters.enter(adapter), next(self._ids)
        self._adapter_of[row] = adapter
        self._sequences[row] = Generation(self._adapters.model, prompt, sampling, self._kv_bits, place)
        return Started(row)

    def drop(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._sequences.pop(row).close()
            self._adapters.leave(self._adapter_of.pop(row))

    def step(self) -> list[Step]:
        ready = [row for row, sequence in self._sequences.items() if sequence.is_read]
        unread = next((sequence for sequence in self._sequences.values() if not sequence.is_read), None)
        if unread is not None:
            unread.read(self._prefill_step)
        return [self._step(row) for row in ready]

    def _step(self, row: int) -> Step:
        sequence = self._sequences[row]
        token, logprobs = sequence.next_token()
        reason = self._reason(token, sequence.left)
        if reason is not None:
            self.drop([row])
        count = sequence.sampling.logprobs
        told = None if count is None else token_logprobs(logprobs, token, count, self._loaded.tokenizer)
        return Step(row, token, reason, told)

    def _reason(self, token: int, left: int) -> FinishReason | None:
        if token in self._stops:
            return "stop"
        return "length" if left == 0 else None

    def settle(self) -> None:
        """Nothing: nothing is kept of what has ended."""

    def read_prompts_by(self, tokens: int) -> None:
        self._prefill_step = min(tokens, self._most)

    def detokenizer(self) -> Detokenizer:
        return self._loaded.detokenizer()

    def memory_bytes(self) -> Mapping[str, int]:
        return {**memory_bytes(mx), "adapters": self._adapters.nbytes}

    def counts(self) -> Mapping[str, int]:
        return self._adapters.counts()

    def reset(self) -> None:
        self.drop(list(self._sequences))
        mx.clear_cache()

    def close(self) -> None:
        self.drop(list(self._sequences))
        self._loaded.close()


def _check_quantizable(model: AdaptedModel, kv_bits: int) -> None:
    """Generate two tokens: what a family's cache can't do shows here, and not at the first request."""
    probe = Generation(model, [0] * PROBE_TOKENS, Sampling(max_tokens=2), kv_bits)
    try:
        while not probe.is_read:
            probe.read(2)
        while probe.left:
            probe.next_token()
        probe.close()
    # Each family fails in its own way: no such cache, a head of another size, attention of its own.
    except Exception as problem:
        raise _not_quantizable(kv_bits, f"{type(problem).__name__}: {problem}") from problem
    if not any(isinstance(layer, QuantizedKVCache) for layer in probe.layers):
        raise _not_quantizable(kv_bits, "none of its layers has a cache that can be")


def _not_quantizable(kv_bits: int, why: str) -> ServiceError:
    message = f"this model's key-value cache can't be quantized to {kv_bits} bits ({why}); build it with kv_bits: 16"
    return ServiceError("kv_bits_unsupported", message, 503)
