"""A network on its device: arrays in, arrays out."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array, TensorSpec

from .runtime_devices import memory_bytes

LOG = logging.getLogger("mlspec.torch")


class Network:
    """Calls `call` with the inputs in their order. `dtypes` are what they are cast to, None: they stay as they are."""

    def __init__(
        self,
        call: Any,
        device: str,
        dtypes: Sequence[Any],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
    ) -> None:
        self._call = call
        self._device = device
        self._dtypes = tuple(dtypes)
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)

    def prepare(self, *, compiled: bool) -> None:
        """Compile it, if so, and compute zeros: kernels are made now, and what doesn't fit is seen before a request.

        Raises ServiceError. Where other sizes than the batch's are open, nothing is computed: no size is known to do.
        """
        if compiled:
            _check_compiler(self._device)
            self._call = torch.compile(
                self._call, dynamic=any(isinstance(n, str) for s in self._inputs for n in s.shape)
            )
        for rows in (1, 2) if compiled else (1,):
            zeros = _zeros(self._inputs, rows)
            if zeros is None:
                LOG.info("sizes other than the batch's are open: the first requests make the kernels")
                return
            self._try(zeros, compiled)

    def _try(self, zeros: Mapping[str, Array], compiled: bool) -> None:
        try:
            self.compute(zeros)
        except ServiceError:
            raise
        # A network's code, or a compiler, may raise anything.
        except Exception as problem:
            LOG.exception("the network can't compute zeros of its declared inputs")
            told = ", ".join(f"{name} {list(array.shape)}" for name, array in zeros.items())
            remedy = "correct inputs, or the class" + (", or leave compile out" if compiled else "")
            raised = f"the network raised {type(problem).__name__} for zeros of its inputs ({told})"
            message = f"{raised}; the server's log has it. To mend it, {remedy}"
            raise ServiceError("load_failed", message, 503) from problem

    def compute(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name, floats in their declared type."""
        with torch.inference_mode():
            given = [self._tensor(inputs[s.name], d) for s, d in zip(self._inputs, self._dtypes, strict=True)]
            return self._named(self._call(*given))

    def check(self) -> None:
        """Compute something, so that it is known that the device does. Raises whatever goes wrong."""
        zeros = _zeros(self._inputs, 1)
        if zeros is None:
            torch.ones(1, device=self._device).sum().item()
        else:
            self.compute(zeros)

    def memory_bytes(self) -> Mapping[str, int]:
        return memory_bytes(self._device)

    def _tensor(self, array: Array, dtype: Any) -> Any:
        """On the device. First cast, as MPS has no float64; torch wants memory that it may write."""
        tensor = torch.from_numpy(np.require(array, requirements=("C", "W")))
        return (tensor if dtype is None else tensor.to(dtype)).to(self._device)

    def _named(self, found: Any) -> dict[str, Array]:
        if isinstance(found, Mapping):
            return {spec.name: _array(found[spec.name], spec) for spec in self._outputs if spec.name in found}
        items = list(found) if isinstance(found, tuple | list) else [found]
        if len(items) != len(self._outputs):
            raise _bad_output(f"the network gives {len(items)} arrays, declared are {len(self._outputs)}")
        return {spec.name: _array(item, spec) for spec, item in zip(self._outputs, items, strict=True)}


def _array(found: Any, spec: TensorSpec) -> Array:
    if not isinstance(found, torch.Tensor):
        raise _bad_output(f"the network gives {type(found).__name__} for {spec.name}, and no tensor")
    if found.dtype == torch.bfloat16:
        found = found.float()  # numpy has no bfloat16
    array: Array = found.detach().cpu().numpy()
    if array.dtype.kind == spec.numpy_dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused as such
            return array.astype(spec.numpy_dtype, copy=False)
    return array


def _bad_output(message: str) -> ServiceError:
    return ServiceError("bad_output", f"the model's answer is not as declared: {message}", 500)


def _zeros(inputs: Sequence[TensorSpec], rows: int) -> dict[str, Array] | None:
    """Zeros of the declared inputs, or the least that they may be; None where another size than the batch's is open."""
    if any(isinstance(size, str) for spec in inputs for size in spec.shape[1:]):
        return None
    return {s.name: np.full(_sizes(s, rows), max(0, s.minimum or 0), dtype=s.numpy_dtype) for s in inputs}


def _sizes(spec: TensorSpec, rows: int) -> list[int]:
    return [size if isinstance(size, int) else rows for size in spec.shape]


def _check_compiler(device: str) -> None:
    """torch.compile writes C++ for a CPU, and for a GPU what starts its kernels."""
    if device == "mps" or any(shutil.which(name) for name in filter(None, (os.environ.get("CXX"), "g++", "clang++"))):
        return
    message = "torch.compile needs a C++ compiler, and there is none: install g++, or leave model.compile out"
    raise ServiceError("load_failed", message, 503)
