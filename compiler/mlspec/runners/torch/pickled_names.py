"""What a state dict's pickle would import and call, and what comes of it: tensors without their numbers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from mlspec.model_files import Tensor

_MOST_DIMENSIONS = 32
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_SIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1}
_SIZES |= {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1}


class NotTensorsError(ValueError):
    """The pickle holds something else than a dictionary of tensors. `refused` is what it would have called, if that is
    what is wrong; `keys` are those of a dictionary of other things.
    """

    def __init__(self, message: str, *, refused: str = "", keys: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.refused = refused
        self.keys = keys


class Name(NamedTuple):
    """What a pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Storage(NamedTuple):
    dtype: str | None


OTHER = object()
"""A value that is no part of the result."""

_CALLED = {
    "collections.OrderedDict",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}


def known(name: Name) -> Name:
    """A name that a state dict has: of what makes tensors, a storage, or a dtype."""
    of_torch = name.module in ("torch", "torch.storage") and (name.name.endswith("Storage") or name.name in _SIZES)
    if str(name) not in _CALLED and not of_torch:
        raise NotTensorsError(f"it would import {name}", refused=str(name))
    return name


def made(called: Name, arguments: tuple[Any, ...]) -> Any:
    """What a call gives: a tensor, a dictionary, or something that isn't looked at."""
    if called.name == "OrderedDict":
        return {}
    if called.name == "Size":
        return arguments[0]
    if called.name.startswith("_rebuild_parameter"):
        return arguments[0]
    if called.name.startswith("_rebuild_tensor"):
        dtype = arguments[6].name if called.name.endswith("_v3") else arguments[0].dtype
        return _tensor(dtype, arguments[2])
    return OTHER


def _tensor(dtype: str | None, shape: Any) -> Tensor:
    if dtype not in _SIZES:
        raise NotTensorsError(f"it holds tensors of a type that mlspec doesn't know ({dtype})")
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError("no shape")
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise ValueError("no sizes")
    return Tensor(dtype, shape, math.prod(shape) * _SIZES[dtype])


def storage_of(name: Name) -> Storage:
    """Where a tensor's numbers lie, of one type."""
    return Storage(_STORAGES.get(name.name))
