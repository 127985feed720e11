"""How tokens are chosen: samplers, and what changes the logits before them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler, make_logits_processors

from mlspec_runtime.generate.sampling import MAX_SEED, Sampling

from .runtime_grammar import Following
from .runtime_logprobs import token_logprobs

__all__ = ["LogitsProcessor", "Sampler", "processors_of", "sampler_of", "token_logprobs"]

SMALLEST = 1e-4
"""Below this, a temperature or a top_p is lost in float32, and what it should choose with it."""
Sampler = Callable[[mx.array], mx.array]
LogitsProcessor = Callable[[mx.array, mx.array], mx.array]
"""A function of the tokens so far, the prompt's among them, and of the logits, shape (1, vocabulary)."""


_async_eval: Any = mx.async_eval


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


class AnswerPenalty:
    """Makes tokens that the answer has less likely: by `presence` if it has them, by `frequency` for each time. The
    prompt's own don't count.
    """

    def __init__(self, presence: float, frequency: float) -> None:
        self._presence = presence
        self._frequency = frequency
        self._counts: mx.array | None = None

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._counts is None:
            self._counts = mx.zeros_like(logits)
            return logits
        self._counts = self._counts.at[:, tokens[-1]].add(1)
        return logits - self._frequency * self._counts - self._presence * (self._counts > 0)


class GrammarProcessor:
    """Leaves the tokens that a grammar allows."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._begun = False

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._begun:
            last: Any = tokens[-1]
            # In this order: the token is there at once, and the logits are computed while its mask is.
            _async_eval(last)
            _async_eval(logits)
            self._following.take(int(last.item()))
        self._begun = True
        allowed = mx.array(self._following.allowed(logits.shape[-1]))
        return mx.where(allowed, logits, mx.array(-mx.inf, logits.dtype))


def sampler_of(sampling: Sampling) -> Sampler:
    """The greedy sampler is one object: a batch that shares it is sampled in one call."""
    greedy: Sampler = greedy_sampler
    return greedy if sampling.temperature < SMALLEST else SeededSampler(sampling)


def processors_of(sampling: Sampling) -> list[LogitsProcessor]:
    """What changes the logits before a token is chosen. The grammar is last, so that nothing can bring back what it
    forbids. They keep an answer's state: make them once for each.
    """
    penalty, grammar = sampling.repetition_penalty, sampling.grammar
    processors: list[LogitsProcessor] = make_logits_processors(
        logit_bias=dict(sampling.logit_bias), repetition_penalty=penalty if penalty != 1.0 else None
    )
    if sampling.presence_penalty or sampling.frequency_penalty:
        processors.append(AnswerPenalty(sampling.presence_penalty, sampling.frequency_penalty))
    if grammar is not None:
        assert isinstance(grammar.constraint, Following)  # noqa: S101 - the runner has compiled it
        processors.append(GrammarProcessor(grammar.constraint))
    return processors
