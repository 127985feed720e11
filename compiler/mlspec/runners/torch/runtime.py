"""The runner `torch` at serve time: a network of the user's class, or an exported program, over named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.protocol import Runner, RunnerContext

if TYPE_CHECKING:
    from .runtime_network import Network

ROLE = "artifacts"


class Settings(BaseModel):
    """The plan's settings of this runner. `module` is relative to the bundle, `file` to the model's folder; of an
    exported program there are `sha256` and the types of its inputs in place of a class.
    """

    model_config = ConfigDict(populate_by_name=True)
    file: str
    format: Literal["safetensors", "state-dict", "exported"]
    device: Literal["mps", "cpu", "cuda"]
    compile: bool = False
    module: str | None = None
    class_name: str | None = Field(default=None, alias="class")
    arguments: dict[str, Any] = Field(default_factory=dict)
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    sha256: str | None = None
    input_dtypes: tuple[str, ...] = ()


class TorchModel:
    """One network on one device."""

    def __init__(self, context: ModelContext) -> None:
        self._context = context
        self._settings = Settings.model_validate(dict(context.settings))
        self._network: Network | None = None

    def load(self, models: Mapping[str, Path]) -> None:
        from .runtime_loading import load  # torch: seconds, and never in a build

        self._network = load(self._settings, self._context, models[ROLE])

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._loaded().compute(inputs)

    def health(self) -> None:
        self._loaded().check()

    def memory_bytes(self) -> Mapping[str, int]:
        return {} if self._network is None else self._network.memory_bytes()

    def close(self) -> None:
        self._network = None

    def _loaded(self) -> Network:
        if self._network is None:
            raise ServiceError("model_loading", "the network isn't loaded", 503)
        return self._network


def create_model(context: ModelContext) -> TorchModel:
    """The model of this runner."""
    return TorchModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
