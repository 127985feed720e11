"""One stage of a pipeline: its runner's model, with the steps around it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.checking import check_shape
from mlspec_runtime.predict.model import CreateModel, ModelContext, TensorModel
from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec
from mlspec_runtime.predict.steps import Place, Steps
from mlspec_runtime.predict.values import conform

LOG = logging.getLogger("mlspec.predict")
_MODULE = re.compile(r"mlspec_runtime\.runners\.[A-Za-z_][A-Za-z0-9_]*\.runtime")


@dataclass(frozen=True)
class StageSettings:
    """`inputs` and `outputs` are the model's; `takes` says of each of the stage's inputs where it comes from, `gives`
    are the names of its outputs.
    """

    name: str
    module: str
    settings: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    takes: Mapping[str, str]
    gives: tuple[str, ...]
    pre: tuple[Mapping[str, Any], ...] = ()
    post: tuple[Mapping[str, Any], ...] = ()


class Stage:
    """Made and called by one thread, as its model is."""

    def __init__(self, settings: StageSettings, bundle: Path) -> None:
        self.name = settings.name
        self._settings = settings
        self._bundle = bundle
        names = [spec.name for spec in settings.inputs]
        self._steps = Steps(settings.pre, settings.post, names, settings.gives)
        context = ModelContext(settings.settings, settings.inputs, settings.outputs, bundle)
        self.model: TensorModel = _create_model(settings.module)(context)

    def load(self, models: Mapping[str, Path]) -> None:
        """Load the stage's own models of the pipeline's."""
        prefix = f"{self.name}/"
        own = {role.removeprefix(prefix): path for role, path in models.items() if role.startswith(prefix)}
        self.model.load(own)
        self._steps.load(Place(self._bundle, own))

    def computed(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """The stage's outputs, of all arrays that there are. Raises ServiceError, or what the model's code raises."""
        inputs = self._steps.prepare({name: arrays[source] for name, source in self._settings.takes.items()})
        sizes = self._sizes(inputs)
        outputs = self._predicted(inputs, sizes)
        return self._steps.after(outputs, inputs)

    def _sizes(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """What the named dimensions of the model's inputs stand for. Earlier stages may have given what doesn't fit."""
        sizes: dict[str, int] = {}
        for spec in self._settings.inputs:
            try:
                check_shape(inputs[spec.name].shape, spec, sizes)
            except BadTensorError as fault:
                raise self._bad(f"the input {spec.name} {fault}") from None
        return sizes

    def _predicted(self, inputs: Mapping[str, Array], sizes: dict[str, int]) -> Mapping[str, Array]:
        if self._is_empty(sizes):
            return {spec.name: _none(spec, sizes) for spec in self._settings.outputs}
        return self._checked(self.model.predict(inputs), sizes)

    def _is_empty(self, sizes: Mapping[str, int]) -> bool:
        """No rows at all, as of a detector that found nothing: few models can compute that."""
        first = self._settings.inputs[0].shape[:1]
        return bool(first) and isinstance(first[0], str) and sizes[first[0]] == 0

    def _checked(self, predicted: Any, sizes: dict[str, int]) -> Mapping[str, Array]:
        declared: Sequence[TensorSpec] = self._settings.outputs
        if not isinstance(predicted, Mapping) or set(predicted) != {spec.name for spec in declared}:
            told = sorted(map(str, predicted)) if isinstance(predicted, Mapping) else type(predicted).__name__
            raise self._bad(f"it must give {', '.join(spec.name for spec in declared)}; it gave {told}")
        return {spec.name: self._conforming(predicted[spec.name], spec, sizes) for spec in declared}

    def _conforming(self, value: Any, spec: TensorSpec, sizes: dict[str, int]) -> Array:
        try:
            return conform(value, spec, sizes)
        except BadTensorError as fault:
            raise self._bad(f"the output {spec.name} {fault}") from None

    def _bad(self, told: str) -> ServiceError:
        message = f"the stage {self.name} did not get or give what is declared: {told}"
        LOG.error("%s", message)
        return ServiceError("bad_output", message, 500)


def _none(spec: TensorSpec, sizes: Mapping[str, int]) -> Array:
    shape = [size if isinstance(size, int) else sizes.get(size, 0) for size in spec.shape]
    return np.zeros(shape, dtype=spec.numpy_dtype)


def _create_model(module: str) -> CreateModel:
    """`create_model` of a runner's runtime. Raises ServiceError."""
    if _MODULE.fullmatch(module) is None:
        raise ServiceError("load_failed", f"'{module}' is no runner's module; build again", 503)
    create: CreateModel = import_module(module).create_model
    return create
