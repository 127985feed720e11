"""One step before or after a model, as a service runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter

from mlspec_runtime.predict.signature import Array

Arrays = Mapping[str, Array]
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Place:
    """Where a step's files are: the bundle, and the models' folders by role."""

    bundle: Path
    models: Mapping[str, Path]


class Step(Protocol):
    """Several threads may call `apply` at once."""

    def load(self, place: Place) -> None:
        """Make ready what is slow, once. Raises ServiceError, or whatever goes wrong: the service doesn't start."""

    def apply(self, arrays: Arrays, model_inputs: Arrays) -> Arrays:
        """The arrays after it, of those before it; `model_inputs` are what the model got, empty before the model.
        Raises ServiceError.
        """


class Ready:
    """A step without anything to load."""

    def load(self, place: Place) -> None:
        """Nothing."""


def read(kind: type[Settings], settings: Mapping[str, Any]) -> Settings:
    """A step's settings (`mlspec.tensors.steps` is their writer), in its type."""
    return TypeAdapter(kind).validate_python({key: value for key, value in settings.items() if key != "step"})


def replaced(arrays: Arrays, old: str, keep: bool, **new: Array) -> Arrays:
    """The arrays with new ones in the place of one, which stays with `keep`."""
    rest = {name: array for name, array in arrays.items() if keep or name != old}
    return {**rest, **new}
