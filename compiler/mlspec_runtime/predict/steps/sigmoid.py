"""Each score to a probability of its own."""

from __future__ import annotations

import numpy as np

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.scores import OfOneArray, wide


class Sigmoid(OfOneArray):
    def computed(self, array: Array) -> Array:
        scores = wide(array)
        # Powers of what is negative only: those of large numbers would be infinite.
        power = np.exp(-np.abs(scores))
        return np.asarray(np.where(scores >= 0, 1, power) / (1 + power)).astype(array.dtype)
