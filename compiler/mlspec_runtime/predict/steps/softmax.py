"""Scores to probabilities over the last dimension."""

from __future__ import annotations

import numpy as np

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.scores import OfOneArray, wide


class Softmax(OfOneArray):
    def computed(self, array: Array) -> Array:
        scores = wide(array)
        if scores.size == 0:
            return array
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=array.dtype)
