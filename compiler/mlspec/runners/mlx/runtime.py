"""The runner `mlx` at serve time: a network of MLX over named arrays.

The class is an `mlx.nn.Module`, or any class with `load(arrays: dict[str, mx.array])`. It is called with the inputs in
their order and returns an array, a tuple or list of them in the order of the outputs, or a dict by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from mlspec_runtime.mlx.blas import preload
from mlspec_runtime.mlx.memory import MemoryLimits
from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.user_code import user_class
from mlspec_runtime.protocol import Runner, RunnerContext

if TYPE_CHECKING:
    from .runtime_network import Network


class Settings(BaseModel):
    """The plan's settings of this runner. `module` is relative to the bundle, `file` is that of the arrays; `dtype` is
    what floats are cast to, those of the inputs too, None: none are.
    """

    module: str
    class_name: str = Field(alias="class")
    arguments: dict[str, Any] = Field(default_factory=dict)
    file: str
    dtype: str | None = None
    compile: bool = False
    preload_blas: str | None = None
    memory: MemoryLimits = Field(default_factory=MemoryLimits)


class MlxModel:
    """The network, and MLX's limits around it."""

    def __init__(self, context: ModelContext) -> None:
        self._settings = Settings.model_validate(dict(context.settings))
        self._context = context
        self._network: Network | None = None

    def load(self, models: Mapping[str, Path]) -> None:
        settings = self._settings
        if settings.preload_blas is not None:
            preload(settings.preload_blas)
        # Imports MLX: after its BLAS is there.
        from .runtime_network import Network

        made = user_class(self._context.bundle / settings.module, settings.class_name)
        self._network = Network(made, settings, self._context, models["artifacts"] / settings.file)

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        assert self._network is not None  # noqa: S101 - `load` made it
        return self._network.predict(inputs)

    def health(self) -> None:
        """Nothing is known of a network but that it computes."""

    def memory_bytes(self) -> Mapping[str, int]:
        return self._network.memory_bytes() if self._network else {}

    def close(self) -> None:
        network, self._network = self._network, None
        if network is not None:
            network.close()


def create_model(context: ModelContext) -> MlxModel:
    """The model of this runner."""
    return MlxModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
