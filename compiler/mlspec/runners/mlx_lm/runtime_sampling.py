"""How tokens are chosen."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler, make_logits_processors

from mlspec_runtime.generate.messages import MAX_SEED, Sampling

SMALLEST = 1e-4
"""Below this, a temperature or a top_p is lost in float32, and what it should choose with it."""
Sampler = Callable[[mx.array], mx.array]
LogitsProcessor = Callable[[mx.array, mx.array], mx.array]


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


def sampler_of(sampling: Sampling) -> Sampler:
    """The greedy sampler is one object: a batch that shares it is sampled in one call."""
    greedy: Sampler = greedy_sampler
    return greedy if sampling.temperature < SMALLEST else SeededSampler(sampling)


def processors_of(sampling: Sampling) -> list[Any]:
    """What changes the logits before a token is chosen: functions of the tokens so far and the logits."""
    penalty = sampling.repetition_penalty
    return make_logits_processors(repetition_penalty=penalty) if penalty != 1.0 else []
