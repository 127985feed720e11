"""The index of the largest score in the last dimension."""

from __future__ import annotations

import numpy as np

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.scores import OfOneArray


class Argmax(OfOneArray):
    def computed(self, array: Array) -> Array:
        return np.asarray(array.argmax(axis=-1), dtype=np.int64)
