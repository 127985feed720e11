"""The runner `pipeline` at serve time: several models in a row, one of them computing at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.protocol import Runner, RunnerContext

from .runtime_stage import Stage, StageSettings


@dataclass(frozen=True)
class Settings:
    """The plan's settings of this runner. `gives` says where each output comes from: `stage.name`, or an input."""

    stages: tuple[StageSettings, ...]
    gives: Mapping[str, str]


class PipelineModel:
    """The stages as one model."""

    def __init__(self, context: ModelContext) -> None:
        settings: Settings = TypeAdapter(Settings).validate_python(dict(context.settings))
        self._gives = settings.gives
        self._stages = tuple(Stage(stage, context.bundle) for stage in settings.stages)

    def load(self, models: Mapping[str, Path]) -> None:
        for stage in self._stages:
            stage.load(models)

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        arrays = dict(inputs)
        for stage in self._stages:
            arrays |= {f"{stage.name}.{name}": array for name, array in stage.computed(arrays).items()}
        return {name: np.asarray(arrays[source]) for name, source in self._gives.items()}

    def health(self) -> None:
        for stage in self._stages:
            stage.model.health()

    def memory_bytes(self) -> Mapping[str, int]:
        total: dict[str, Any] = {}
        for stage in self._stages:
            for kind, size_bytes in stage.model.memory_bytes().items():
                total[kind] = total.get(kind, 0) + size_bytes
        return total

    def close(self) -> None:
        for stage in self._stages:
            stage.model.close()


def create_model(context: ModelContext) -> PipelineModel:
    """The model of this runner."""
    return PipelineModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
