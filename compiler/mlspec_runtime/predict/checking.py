"""Whether an array is the declared one: its kind, shape, numbers and range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec

# The kinds of array (numpy's letters) that values of a declared type may come as.
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf", "O": "OU"}


def checked(array: Array, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """The array as the declared tensor. No value may change by it; floats may be rounded.

    `sizes` holds what named dimensions stand for so far, and is added to. Raises BadTensorError.
    """
    if array.size and not takes(array.dtype, spec):
        raise BadTensorError(f"wants {spec}, has values of another type")
    check_shape(array.shape, spec, sizes)
    return _cast(array, spec)


def takes(dtype: np.dtype[Any], spec: TensorSpec) -> bool:
    """Whether values of this type may stand for the declared one."""
    return dtype.kind in _KINDS[spec.numpy_dtype.kind]


def check_shape(shape: Sequence[int], spec: TensorSpec, sizes: dict[str, int]) -> None:
    """As `checked` does, for a shape alone."""
    if len(shape) != len(spec.shape):
        raise BadTensorError(f"wants {spec}, has the shape {list(shape)}")
    for declared, size in zip(spec.shape, shape, strict=True):
        wanted = declared if isinstance(declared, int) else sizes.setdefault(declared, size)
        if wanted != size:
            name = "" if isinstance(declared, int) else f", where {declared} is {wanted}"
            raise BadTensorError(f"wants {spec}{name}; has the shape {list(shape)}")


def _cast(array: Array, spec: TensorSpec) -> Array:
    dtype = spec.numpy_dtype
    cast = array if array.dtype == dtype else _as_type(array, dtype)
    if dtype.kind == "f":
        if not np.isfinite(cast).all():
            told = f"wants {spec}, has a number that is infinite, none, or too large"
            raise BadTensorError(told, first(~np.isfinite(cast)))
    elif dtype.kind == "O":
        _check_texts(cast, spec)
    elif cast is not array and not np.array_equal(cast, array):
        raise BadTensorError(f"wants {spec}, has a number that does not fit", first(cast != array))
    return cast


def _as_type(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _check_texts(array: Array, spec: TensorSpec) -> None:
    """Texts alone, and such as UTF-8 can write: half of a surrogate pair would break whoever writes it later."""
    seen: set[int] = set()
    for place, text in np.ndenumerate(array):
        if not isinstance(text, str):
            raise BadTensorError(f"wants {spec}, has values of another type", place)
        if not text.isascii() and id(text) not in seen:
            _check_text(text, spec, place)
            seen.add(id(text))


def _check_text(text: str, spec: TensorSpec, place: tuple[int, ...]) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadTensorError(f"wants {spec}, has a text that is not Unicode", place) from None


def check_range(array: Array, spec: TensorSpec) -> None:
    """That no number is outside of the declared range. Raises BadTensorError."""
    if array.dtype.kind == "O":
        return
    if spec.minimum is not None and (array < _bound(spec.minimum, spec)).any():
        place = first(array < _bound(spec.minimum, spec))
        raise BadTensorError(f"wants {spec} of at least {spec.minimum:g}, has a smaller number", place)
    if spec.maximum is not None and (array > _bound(spec.maximum, spec)).any():
        place = first(array > _bound(spec.maximum, spec))
        raise BadTensorError(f"wants {spec} of at most {spec.maximum:g}, has a larger number", place)


def _bound(value: float, spec: TensorSpec) -> float:
    """As the tensor's own type has it: 0.1 as a float32 is more than 0.1, and no fault of the client's."""
    if spec.numpy_dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        return float(spec.numpy_dtype.type(value))


def first(where: Array) -> tuple[int, ...]:
    """The place of the first that is true."""
    return tuple(int(at) for at in np.unravel_index(int(where.argmax()), where.shape))
