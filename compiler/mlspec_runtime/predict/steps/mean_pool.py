"""The mean of each row's tokens, without its padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.scores import wide
from mlspec_runtime.predict.steps.step import Arrays, Ready, read, replaced


@dataclass(frozen=True)
class Settings:
    input: str
    output: str
    mask: str | None = None
    keep: bool = False


class MeanPool(Ready):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        own = self._settings
        tokens = arrays[own.input]
        mask = np.ones(tokens.shape[:2]) if own.mask is None else model_inputs[own.mask]
        return replaced(arrays, own.input, own.keep, **{own.output: pooled(tokens, mask)})


def pooled(tokens: Array, mask: Array) -> Array:
    """`tokens` [rows, tokens, …] to [rows, …]: the mean of those whose `mask` [rows, tokens] isn't 0, or zeros."""
    values = wide(tokens)
    weights = (mask != 0).astype(values.dtype)
    sums = np.einsum("bt...,bt->b...", values, weights)
    counts = np.maximum(weights.sum(axis=1), 1).reshape(-1, *[1] * (values.ndim - 2))
    return np.asarray(sums / counts).astype(tokens.dtype)
