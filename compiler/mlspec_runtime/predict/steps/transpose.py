"""Dimensions in another order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.predict.steps.step import Arrays, Ready, read


@dataclass(frozen=True)
class Settings:
    input: str
    order: tuple[int, ...]


class Transpose(Ready):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        own = self._settings
        # Frameworks want rows that lie together in memory.
        turned = np.ascontiguousarray(arrays[own.input].transpose(own.order))
        return {**arrays, own.input: turned}
