"""Named tensors in requests and answers: JSON lists to arrays of declared types and shapes, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec

# The kinds of array (numpy's letters) that JSON values of a declared type may come as.
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf", "O": "OU"}
_LEAVES: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float), "O": (str,)}


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


def example(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Values of the declared types and shapes, with 1 for named dimensions."""
    return {spec.name: _filled(spec).tolist() for spec in specs}


def _filled(spec: TensorSpec) -> Array:
    return np.zeros([size if isinstance(size, int) else 1 for size in spec.shape], dtype=spec.numpy_dtype)


def to_lists(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Arrays as nested lists."""
    return {name: array.tolist() for name, array in arrays.items()}
