"""The runner `sklearn` at serve time: a model of scikit-learn, made by skops of what it knows and is told to trust."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.protocol import Runner, RunnerContext


class Settings(BaseModel):
    """The plan's settings of this runner. `methods` are by outputs; `folders` of the bundle hold code of the user's;
    with `table` the model is given a DataFrame.
    """

    file: str
    methods: dict[str, str]
    trusted_types: list[str] = Field(default_factory=list)
    folders: list[str] = Field(default_factory=list)
    table: bool = False


class SklearnModel:
    """One fitted model."""

    def __init__(self, context: ModelContext) -> None:
        self._settings = Settings.model_validate(dict(context.settings))
        self._inputs = context.inputs
        self._outputs = context.outputs
        self._bundle = context.bundle
        self._model: Any = None

    def load(self, models: Mapping[str, Path]) -> None:
        sys.path[:0] = [str(self._bundle / folder) for folder in self._settings.folders]
        self._model = _loaded(models["artifacts"] / self._settings.file, self._settings.trusted_types)
        for output, method in self._settings.methods.items():
            if not hasattr(self._model, method):
                message = f"a {type(self._model).__name__} has no {method}, which was to give the output {output}"
                raise ServiceError("load_failed", f"{message}; correct model.methods or model.outputs", 503)
        self._check_columns()
        # Rows are given as arrays; that the columns are in their order was looked at just now.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")

    def _check_columns(self) -> None:
        """That the declared columns are those of the training, in their order."""
        trained = list(getattr(self._model, "feature_names_in_", ()))
        declared = [spec.name for spec in self._inputs] if len(self._inputs) > 1 else list(self._inputs[0].columns)
        if trained and declared and trained != declared:
            told = ", ".join(map(str, trained[:20]))
            message = f"the model was trained with other columns, or in another order: {told}"
            raise ServiceError("load_failed", f"{message}; declare these", 503)

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        rows = self._rows(inputs)
        given = {
            method: np.asarray(getattr(self._model, method)(rows)) for method in set(self._settings.methods.values())
        }
        return {output: given[method] for output, method in self._settings.methods.items()}

    def _rows(self, inputs: Mapping[str, Array]) -> Any:
        first = self._inputs[0]
        if not self._settings.table:
            return inputs[first.name]
        pandas = import_module("pandas")  # in the bundle only where the spec asks for it
        if len(self._inputs) > 1:
            return pandas.DataFrame({spec.name: inputs[spec.name] for spec in self._inputs})
        return pandas.DataFrame(inputs[first.name], columns=list(first.columns) or None)

    def health(self) -> None:
        """A fitted model has no state that could go wrong: that its thread answers is all there is to know."""

    def memory_bytes(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        self._model = None


def _loaded(file: Path, trusted: list[str]) -> Any:
    """What skops makes of the file. Raises ServiceError where that holds a type that isn't trusted."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.load(file, trusted=trusted)
    except UntrustedTypesFoundException as problem:
        told = str(problem).splitlines()[0]
        raise ServiceError("load_failed", f"{told} Name in model.trusted_types those that you know", 503) from problem
    except ImportError as problem:
        remedy = "put its package into model.requirements, or its file into model.files"
        raise ServiceError(
            "load_failed", f"a type of the model can't be imported: {problem}; {remedy}", 503
        ) from problem


def create_model(context: ModelContext) -> SklearnModel:
    """The model of this runner."""
    return SklearnModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
