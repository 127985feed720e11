"""The runner `python` at serve time: a class of the user's own over named tensors.

The class has `predict(inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]` and, where it has them,
`load(artifacts: Path | None)` before the first and `health()`, which raises when something is wrong. One thread
makes it and calls it, so it needs no locks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.user_code import user_class
from mlspec_runtime.protocol import Runner, RunnerContext


class Settings(BaseModel):
    """The plan's settings of this runner. `module` is relative to the bundle."""

    module: str
    class_name: str = Field(alias="class")
    artifacts: bool = False


class PythonModel:
    """An instance of the user's class."""

    def __init__(self, context: ModelContext) -> None:
        self._settings = Settings.model_validate(dict(context.settings))
        self._bundle = context.bundle
        self._instance: Any = None

    def load(self, models: Mapping[str, Path]) -> None:
        self._instance = user_class(self._bundle / self._settings.module, self._settings.class_name)()
        if hasattr(self._instance, "load"):
            self._instance.load(models.get("artifacts"))

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs: Mapping[str, Array] = self._instance.predict(dict(inputs))
        return outputs

    def health(self) -> None:
        if hasattr(self._instance, "health"):
            self._instance.health()

    def memory_bytes(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._instance = None


def create_model(context: ModelContext) -> PythonModel:
    """The model of this runner."""
    return PythonModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
