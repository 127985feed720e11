"""A network of MLX in memory: made, filled with its arrays, and called with numpy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.mlx.memory import memory_bytes, reported_bytes, set_limits
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import Array, TensorSpec

from .runtime_arrays import fill, read

if TYPE_CHECKING:
    from .runtime import Settings


class Network:
    """Used by the thread that made it: MLX's streams belong to it."""

    def __init__(self, made: Any, settings: Settings, context: ModelContext, file: Path) -> None:
        set_limits(settings.memory, reported_bytes(mx.device_info()), mx)
        self._dtype = None if settings.dtype is None else getattr(mx, settings.dtype)
        self._inputs, self._outputs = context.inputs, context.outputs
        network = made(**settings.arguments)
        fill(network, read(file, self._dtype))
        self._call: Callable[..., Any] = _compiled(network) if settings.compile else network
        mx.clear_cache()

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs in their declared types. Raises ServiceError if the network gives something else."""
        given = self._call(*(self._taken(inputs[spec.name]) for spec in self._inputs))
        arrays = [_given(array, spec) for array, spec in zip(self._in_order(given), self._outputs, strict=True)]
        mx.eval(arrays)
        return {s.name: np.array(a).astype(s.numpy_dtype) for s, a in zip(self._outputs, arrays, strict=True)}

    def _taken(self, array: Array) -> mx.array:
        """An input as MLX's array; floats in the type of the network's own, as others would draw all into theirs."""
        taken = mx.array(array.astype(np.float32) if array.dtype == np.float64 else array)
        return taken.astype(self._dtype) if self._dtype is not None and array.dtype.kind == "f" else taken

    def _in_order(self, given: Any) -> Sequence[Any]:
        names = [spec.name for spec in self._outputs]
        if isinstance(given, Mapping) and set(given) == set(names):
            return [given[name] for name in names]
        arrays = [given] if isinstance(given, mx.array) else given
        if isinstance(arrays, list | tuple) and len(arrays) == len(names):
            return arrays
        told = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        message = f"the network must return {', '.join(names)}: arrays in this order, or a dict; it returned {told}"
        raise ServiceError("bad_output", message, 500)

    def memory_bytes(self) -> Mapping[str, int]:
        return memory_bytes(mx)

    def close(self) -> None:
        """Free it."""
        del self._call
        mx.clear_cache()


def _compiled(network: Any) -> Callable[..., Any]:
    """Its arrays are given as inputs, or each would be a constant of the compiled graph."""
    compiled: Callable[..., Any] = mx.compile(network, inputs=getattr(network, "state", None))
    return compiled


def _given(array: Any, spec: TensorSpec) -> mx.array:
    """An output in a type that numpy has, too: bfloat16 is none of these."""
    if not isinstance(array, mx.array):
        message = f"output {spec.name}: the network returned {type(array).__name__}, no array of MLX"
        raise ServiceError("bad_output", message, 500)
    wanted = {"bool": "bool_", "float64": "float32"}.get(spec.dtype, spec.dtype)
    return array.astype(getattr(mx, wanted))
