"""The runner `python` at serve time: a class of the user's own over named tensors.

The class has `predict(inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]` and, where it has them,
`load(artifacts: Path | None)` before the first and `health()`, which raises when something is wrong. One thread
makes it and calls it, so it needs no locks.

With `predict_batch(requests: list[dict[str, numpy.ndarray]]) -> list[dict[str, numpy.ndarray] | Exception]` it is given
several requests as they are, whatever their shapes, up to the plan's rows; beside it `predict` may be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from mlspec_runtime.errors import ServiceError
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
    """An instance of the user's class. It has a `predict_batch` if the class has."""

    predict_batch: Callable[[Sequence[Mapping[str, Array]]], Sequence[Mapping[str, Array] | Exception]]

    def __init__(self, context: ModelContext) -> None:
        self._settings = Settings.model_validate(dict(context.settings))
        self._bundle = context.bundle
        self._instance: Any = None

    def load(self, models: Mapping[str, Path]) -> None:
        self._instance = user_class(self._bundle / self._settings.module, self._settings.class_name)()
        if hasattr(self._instance, "load"):
            self._instance.load(models.get("artifacts"))
        if hasattr(self._instance, "predict_batch"):
            self.predict_batch = self._predict_batch
        elif not hasattr(self._instance, "predict"):
            message = f"{self._settings.class_name} has neither predict nor predict_batch; give it one of them"
            raise ServiceError("load_failed", message, 503)

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if not hasattr(self._instance, "predict"):
            return _only(self._predict_batch([inputs]))
        outputs: Mapping[str, Array] = self._instance.predict(dict(inputs))
        return outputs

    def _predict_batch(self, requests: Sequence[Mapping[str, Array]]) -> Sequence[Mapping[str, Array] | Exception]:
        answers: Sequence[Mapping[str, Array] | Exception] = self._instance.predict_batch([dict(i) for i in requests])
        return answers

    def health(self) -> None:
        if hasattr(self._instance, "health"):
            self._instance.health()

    def memory_bytes(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._instance = None


def _only(answers: Sequence[Mapping[str, Array] | Exception]) -> Mapping[str, Array]:
    """The answer to the one request. Raises what stands in its place, and ValueError if there isn't one answer."""
    (answer,) = answers
    if isinstance(answer, Exception):
        raise answer
    return answer


def create_model(context: ModelContext) -> PythonModel:
    """The model of this runner."""
    return PythonModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
