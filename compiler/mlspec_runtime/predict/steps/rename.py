"""Other names for arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec_runtime.predict.steps.step import Arrays, Ready


class Rename(Ready):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._names: Mapping[str, str] = settings["names"]

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        return {self._names.get(name, name): array for name, array in arrays.items()}
