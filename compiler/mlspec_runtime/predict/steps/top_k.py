"""The largest scores of the last dimension, the largest first, and their indexes."""

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
    k: int
    scores: str
    classes: str
    keep: bool = False
    labels: tuple[str, ...] = ()


class TopK(Ready):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = read(Settings, settings)

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        own = self._settings
        scores = arrays[own.input]
        if scores.shape[-1] < own.k:
            message = f"the model gave {scores.shape[-1]} scores, of which the {own.k} largest were to be told"
            raise ServiceError("bad_output", message, 500)
        # Stable, so that of equal scores the first comes first.
        order = np.argsort(-scores, axis=-1, kind="stable")[..., : own.k]
        best = np.take_along_axis(scores, order, axis=-1)
        return replaced(arrays, own.input, own.keep, **{own.scores: best, own.classes: order.astype(np.int64)})
