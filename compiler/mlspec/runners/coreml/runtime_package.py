"""A Core ML package in memory. What was never run on a Mac is said in docs/coreml.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coremltools
import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array, TensorSpec

from .runtime_shapes import parts

if TYPE_CHECKING:
    from .runtime import Settings


class Package:
    """Compiled by Core ML as it is loaded."""

    def __init__(self, path: Path, settings: Settings, context: ModelContext) -> None:
        units = coremltools.ComputeUnit[settings.compute_units.upper()]
        self._model = coremltools.models.MLModel(str(path), compute_units=units)
        self._settings = settings
        self._outputs = context.outputs

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The declared outputs, of all rows. Raises ServiceError (422) for shapes that the package doesn't take."""
        found = [self._predicted(part) for part in parts(inputs, self._settings.limits)]
        if len(found) == 1:
            return found[0]
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}

    def _predicted(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = self._model.predict({self._own(name): self._taken(name, array) for name, array in inputs.items()})
        lacking = [spec.name for spec in self._outputs if self._own(spec.name) not in given]
        if lacking:
            raise ServiceError("bad_output", f"the package gave no {', '.join(lacking)}", 500)
        return {spec.name: _array(given[self._own(spec.name)], spec) for spec in self._outputs}

    def _own(self, name: str) -> str:
        """The package's name of an input or output."""
        return self._settings.names.get(name, name)

    def _taken(self, name: str, array: Array) -> Any:
        """An input as coremltools takes it: images as Pillow's, single numbers and texts as Python's."""
        if name in self._settings.images:
            return _image(array)
        return array.item() if array.shape == () else array


def _image(array: Array) -> Any:
    from PIL import Image  # only where a package takes images

    return Image.fromarray(array)


def _array(value: Any, spec: TensorSpec) -> Array:
    """An output in its declared type."""
    return np.asarray(value).astype(spec.numpy_dtype)
