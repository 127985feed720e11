"""The runner `onnx` at serve time: a session of onnxruntime over named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.protocol import Runner, RunnerContext

from .runtime_session import open_session


class Names(BaseModel):
    """The file's own names of those inputs and outputs that requests call otherwise."""

    inputs: dict[str, str] = Field(default_factory=dict)
    outputs: dict[str, str] = Field(default_factory=dict)


class Settings(BaseModel):
    """The plan's settings of this runner. `threads` 0: as many as there are cores here."""

    file: str
    provider: str = "cpu"
    compute_units: str = "all"
    threads: int = 0
    cache_key: str = ""
    names: Names = Field(default_factory=Names)


class OnnxModel:
    """One session, which is asked for the declared outputs alone."""

    def __init__(self, context: ModelContext) -> None:
        self._settings = Settings.model_validate(dict(context.settings))
        names = self._settings.names
        self._inputs = [(spec.name, names.inputs.get(spec.name, spec.name)) for spec in context.inputs]
        self._outputs = [(spec.name, names.outputs.get(spec.name, spec.name)) for spec in context.outputs]
        self._session: Any = None

    def load(self, models: Mapping[str, Path]) -> None:
        self._session = open_session(models["artifacts"] / self._settings.file, self._settings)

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        feed = {own: inputs[name] for name, own in self._inputs}
        try:
            outputs = self._session.run([own for _, own in self._outputs], feed)
        except InvalidArgument as problem:
            raise _refused(problem) from problem
        return {name: output for (name, _), output in zip(self._outputs, outputs, strict=True)}

    def health(self) -> None:
        """A session has no state that could go wrong: that its thread answers is all there is to know."""

    def memory_bytes(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._session = None


def _refused(problem: Exception) -> ServiceError:
    """What onnxruntime says of inputs that the model can't be computed with: sizes that don't fit each other."""
    told = str(problem).splitlines()[0][:300]
    return ServiceError(
        "invalid_request", f"the model can't be computed with these inputs: {told}", 422, field="inputs"
    )


def create_model(context: ModelContext) -> OnnxModel:
    """The model of this runner."""
    return OnnxModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
