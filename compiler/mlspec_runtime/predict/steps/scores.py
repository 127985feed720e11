"""What the steps over scores share: which array they read, and how what they make is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.step import Arrays, Ready, read, replaced


@dataclass(frozen=True)
class Settings:
    input: str
    output: str
    keep: bool = False


class OfOneArray(Ready):
    """A step from one array to one other."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        own = self._settings
        return replaced(arrays, own.input, own.keep, **{own.output: self.computed(arrays[own.input])})

    def computed(self, array: Array) -> Array:
        """The new array."""
        raise NotImplementedError


def wide(array: Array) -> Array:
    """Floats of 32 bits at least: half ones lose too much in sums."""
    return array.astype(np.float32) if array.dtype == np.float16 else array
