"""The runner `coreml` at serve time: a Core ML package over named arrays. macOS alone has Core ML."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.engine import tensor_runner
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array
from mlspec_runtime.protocol import Runner, RunnerContext

if TYPE_CHECKING:
    from .runtime_package import Package


class Limit(BaseModel):
    """What shapes an input may have: the least and the most of each dimension, or all that there are. Empty: any."""

    ranges: tuple[tuple[int, int | None], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()


class Settings(BaseModel):
    """The plan's settings of this runner. `file` is the package's folder, `images` the inputs that it takes as such;
    `names` has the package's own names where they are others.
    """

    file: str
    compute_units: Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"] = "all"
    images: tuple[str, ...] = ()
    limits: Mapping[str, Limit] = Field(default_factory=dict)
    names: Mapping[str, str] = Field(default_factory=dict)


class CoremlModel:
    """The package, where there is a Core ML to load it."""

    def __init__(self, context: ModelContext) -> None:
        self._settings = Settings.model_validate(dict(context.settings))
        self._context = context
        self._package: Package | None = None

    def load(self, models: Mapping[str, Path]) -> None:
        check_platform(sys.platform)
        from .runtime_package import Package

        self._package = Package(models["artifacts"] / self._settings.file, self._settings, self._context)

    def predict(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        assert self._package is not None  # noqa: S101 - `load` made it
        return self._package.predict(inputs)

    def health(self) -> None:
        """Nothing is known of a package but that it computes."""

    def memory_bytes(self) -> Mapping[str, int]:
        """Nothing: Core ML doesn't tell."""
        return {}

    def close(self) -> None:
        self._package = None


def check_platform(platform: str) -> None:
    """Raises ServiceError where there is no Core ML."""
    if platform != "darwin":
        message = (
            f"Core ML is a part of macOS, and this computer runs {platform}: this bundle can be built here, but not "
            "served. Start it on a Mac, or build the model for Linux with the runner torch or onnx"
        )
        raise ServiceError("coreml_needs_macos", message, 503)


def create_model(context: ModelContext) -> CoremlModel:
    """The model of this runner."""
    return CoremlModel(context)


def create(context: RunnerContext) -> Runner:
    """The runner of this module."""
    return tensor_runner(context, create_model)
