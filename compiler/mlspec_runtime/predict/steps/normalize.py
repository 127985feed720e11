"""Numbers to the range that a model was trained for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.step import Arrays, Ready, read


@dataclass(frozen=True)
class Settings:
    """`rank` is the number of the array's dimensions; `mean` and `std` are along `axis`."""

    input: str
    dtype: str
    rank: int
    divide_by: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    axis: int = -1


class Normalize(Ready):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = own = read(Settings, settings)
        self._dtype = np.dtype(own.dtype)
        # Floats of 16 bits are made at the end: their sums and products lose too much.
        self._computed_in = np.float64 if self._dtype == np.float64 else np.float32
        mean, std = self._along(own.mean, 0.0), self._along(own.std, 1.0)
        # (x / d - m) / s, as one product and one sum.
        self._factor = (1.0 / (own.divide_by * std)).astype(self._computed_in)
        self._summand = (-mean / std).astype(self._computed_in)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        name = self._settings.input
        values = arrays[name].astype(self._computed_in)
        np.multiply(values, self._factor, out=values)
        np.add(values, self._summand, out=values)
        return {**arrays, name: values.astype(self._dtype, copy=False)}

    def _along(self, values: tuple[float, ...], without: float) -> Array:
        shape = [1] * self._settings.rank
        if len(values) > 1:
            shape[self._settings.axis] = len(values)
        return np.array(values or (without,), dtype=np.float64).reshape(shape)
