"""Indexes to the texts that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.steps.step import Arrays, Ready, read, replaced


@dataclass(frozen=True)
class Settings:
    input: str
    output: str
    labels: tuple[str, ...]
    keep: bool = False


class Labels(Ready):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)
        self._texts = np.array(self._settings.labels, dtype=object)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        own = self._settings
        indexes = arrays[own.input]
        if indexes.size and (int(indexes.min()) < 0 or int(indexes.max()) >= len(self._texts)):
            message = f"the model gave a class that none of the {len(self._texts)} labels of {own.input} is for"
            raise ServiceError("bad_output", message, 500)
        return replaced(arrays, own.input, own.keep, **{own.output: np.asarray(self._texts[indexes], dtype=object)})
