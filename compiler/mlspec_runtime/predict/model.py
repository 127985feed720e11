"""What a runner of tensors gives at run time: one model over named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mlspec_runtime.predict.signature import Array, TensorSpec


@dataclass(frozen=True)
class ModelContext:
    """`settings` are the runner's own, `inputs` and `outputs` the model's, `bundle` the folder that it serves from."""

    settings: Mapping[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    bundle: Path


class TensorModel(Protocol):
    """Loads and computes one model. One thread makes it and calls it, so it needs no locks."""

    def load(self, models: Mapping[str, Path]) -> None:
        """Load from the folders by role. Raises ServiceError, or whatever goes wrong: the service doesn't start."""

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs for inputs of the declared types and shapes. Rows of several requests may lie together along the
        batch's dimension, where the plan says so. Raises ServiceError if the client is to know what is wrong.
        """

    def health(self) -> None:
        """Nothing, or whatever is wrong as an exception."""

    def memory_bytes(self) -> Mapping[str, int]:
        """The memory that it holds, by kind (`active`, `cache`, `peak`); empty where it can't tell. Any thread."""

    def close(self) -> None:
        """Free what it holds."""


@runtime_checkable
class ManyAtOnce(Protocol):
    """A model that takes several requests as they are, whatever their shapes."""

    def predict_batch(self, requests: Sequence[Mapping[str, Array]]) -> Sequence[Mapping[str, Array] | Exception]:
        """The outputs of each, in their order, or what is wrong with it: the client is told of a ServiceError, the log
        of any other. Raises whatever goes wrong: each is then asked for alone.
        """


CreateModel = Callable[[ModelContext], TensorModel]
"""`create_model` of a runner's `runtime.py`: cheap, imports nothing heavy."""
