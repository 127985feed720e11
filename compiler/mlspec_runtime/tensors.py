"""Named tensors in requests and answers: JSON lists to arrays of declared types and shapes, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

Array = npt.NDArray[Any]
Dtype = Literal[
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
]
# The kinds of array (numpy's letters) that JSON values of a declared type may come as.
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
_LEAVES: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}
_JSON_TYPES = {"b": "boolean", "i": "integer", "u": "integer", "f": "number"}


class BadTensorError(ValueError):
    """A value that isn't the declared tensor; the message says how it differs."""


@dataclass(frozen=True)
class TensorSpec:
    """A declared tensor. A dimension is a number or a name; equal names stand for equal numbers in one request."""

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


def conform(value: Any, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`value` (nested lists, or an array) as the declared tensor. No value may change by it; floats may be rounded.

    `sizes` holds what named dimensions stand for so far, and is added to. Raises BadTensorError.
    """
    array = _array(value, spec)
    if array.size == 0:
        # An empty list has no type of its own.
        array = array.astype(spec.numpy_dtype)
    if array.dtype.kind not in _KINDS[spec.numpy_dtype.kind]:
        raise BadTensorError(f"wants {spec}, has values of another type")
    _check_shape(array.shape, spec, sizes)
    return _cast(array, spec)


def _check_leaves(value: Any, spec: TensorSpec) -> None:
    """Nothing but values of the declared kind, before numpy sees them: it would pad texts to the length of the longest,
    and take gigabytes for a small body.
    """
    allowed, pending = _LEAVES[spec.numpy_dtype.kind], [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list | tuple):
            pending.extend(item)
        elif type(item) not in allowed and not isinstance(item, np.ndarray | np.generic):
            raise BadTensorError(f"wants {spec}, has values of another type")


def _array(value: Any, spec: TensorSpec) -> Array:
    _check_leaves(value, spec)
    try:
        return np.asarray(value)
    # Lists of different lengths, integers beyond 64 bits.
    except (ValueError, OverflowError):
        raise BadTensorError(f"wants {spec}, the lists in it have different lengths or depths") from None


def _check_shape(shape: Sequence[int], spec: TensorSpec, sizes: dict[str, int]) -> None:
    if len(shape) != len(spec.shape):
        raise BadTensorError(f"wants {spec}, has the shape {list(shape)}")
    for declared, size in zip(spec.shape, shape, strict=True):
        wanted = declared if isinstance(declared, int) else sizes.setdefault(declared, size)
        if wanted != size:
            name = "" if isinstance(declared, int) else f", where {declared} is {wanted}"
            raise BadTensorError(f"wants {spec}{name}; has the shape {list(shape)}")


def _cast(array: Array, spec: TensorSpec) -> Array:
    with np.errstate(over="ignore"):
        cast = array.astype(spec.numpy_dtype)
    if cast.dtype.kind == "f":
        if not np.isfinite(cast).all():
            raise BadTensorError(f"wants {spec}, has a number that is infinite, none, or too large")
    elif not np.array_equal(cast, array):
        raise BadTensorError(f"wants {spec}, has a number that does not fit")
    return cast


class TensorTimings(BaseModel):
    """Seconds since the request came in: until computing began, and until the end."""

    queue_s: float
    total_s: float


class TensorRequest(BaseModel):
    """Named tensors, as nested lists."""

    model_config = ConfigDict(extra="forbid", strict=True)
    inputs: Any

    def values(self) -> dict[str, Any]:
        """The inputs by their names."""
        return {name: getattr(self.inputs, f"tensor_{at}") for at, name in enumerate(_names(type(self.inputs)))}


class TensorResponse(BaseModel):
    """Named tensors, as nested lists."""

    outputs: dict[str, Any]
    timings: TensorTimings
    request_id: str


def _names(group: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in group.model_fields.items()]


def request_type(inputs: Sequence[TensorSpec]) -> type[TensorRequest]:
    """The request of one service: its inputs are in the type, and so in the documents."""
    group = _group("Inputs", inputs)
    return create_model("TensorRequest", __base__=TensorRequest, inputs=(group, ...))


def response_type(outputs: Sequence[TensorSpec]) -> type[TensorResponse]:
    """The answer of one service, for its documents."""
    group = _group("Outputs", outputs)
    return create_model("TensorResponse", __base__=TensorResponse, outputs=(group, ...))


def _group(name: str, specs: Sequence[TensorSpec]) -> type[BaseModel]:
    """A type with a field for each tensor. Names come from a spec and may be anything, so they are aliases."""
    fields: dict[str, Any] = {
        f"tensor_{at}": (Annotated[Any, WithJsonSchema(_schema(spec))], Field(alias=spec.name))
        for at, spec in enumerate(specs)
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _schema(spec: TensorSpec) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _JSON_TYPES[spec.numpy_dtype.kind]}
    for dimension in reversed(spec.shape):
        schema = {"type": "array", "items": schema}
        if isinstance(dimension, int):
            schema |= {"minItems": dimension, "maxItems": dimension}
    return {**schema, "description": str(spec)}


def example(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Values of the declared types and shapes, with 1 for named dimensions."""
    return {spec.name: _filled(spec).tolist() for spec in specs}


def _filled(spec: TensorSpec) -> Array:
    return np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], dtype=spec.numpy_dtype)


def to_lists(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Arrays as nested lists."""
    return {name: array.tolist() for name, array in arrays.items()}
