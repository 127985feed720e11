"""The vector of each row's first token."""

from __future__ import annotations

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.scores import OfOneArray


class FirstToken(OfOneArray):
    def computed(self, array: Array) -> Array:
        return array[:, 0]
