"""Vectors of the last dimension to length 1; those of length 0 stay as they are."""

from __future__ import annotations

import numpy as np

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.scores import OfOneArray, wide

_LEAST_LENGTH = 1e-12


class L2Normalize(OfOneArray):
    def computed(self, array: Array) -> Array:
        vectors = wide(array)
        lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, _LEAST_LENGTH)).astype(array.dtype)
