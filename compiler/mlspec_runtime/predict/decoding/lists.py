"""Nested lists to arrays: all types are looked at before numpy sees a value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec

_LEAVES: dict[str, frozenset[type]] = {
    "b": frozenset((bool,)),
    "i": frozenset((int,)),
    "u": frozenset((int,)),
    "f": frozenset((int, float)),
    "O": frozenset((str,)),
}
_LISTS = frozenset((list, tuple))


def array_of(value: Any, spec: TensorSpec) -> Array:
    """`value` (nested lists, a number, an array, lists of arrays) as an array, of the declared type where it came as
    lists. Raises BadTensorError.
    """
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    leaves, shape, types = _flat(value, spec)
    if not types <= _LEAVES[spec.numpy_dtype.kind]:
        if all(issubclass(kind, np.ndarray | np.generic | bool | int | float | str) for kind in types) and any(
            issubclass(kind, np.ndarray | np.generic) for kind in types
        ):
            return _of_arrays(value, spec)
        raise _another_type(leaves, shape, spec)
    return _filled(leaves, shape, spec).reshape(shape)


def _flat(value: Any, spec: TensorSpec) -> tuple[Sequence[Any], list[int], set[type]]:
    """All leaves in a row, the shape that they lie in, and their types. A list's walk in Python would cost more than
    all the rest: each level is one call.
    """
    level: Sequence[Any] = [value]
    shape: list[int] = []
    while True:
        types = set(map(type, level))
        if not types or not types <= _LISTS:
            break
        lengths = set(map(len, level))
        if len(lengths) > 1:
            raise _uneven(spec)
        shape.append(lengths.pop())
        if len(shape) > len(spec.shape):
            raise BadTensorError(f"wants {spec}, has lists in lists {len(shape)} deep or deeper")
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    if types & _LISTS:
        raise _uneven(spec)
    return level, shape, types


def _uneven(spec: TensorSpec) -> BadTensorError:
    return BadTensorError(f"wants {spec}, the lists in it have different lengths or depths")


def _another_type(leaves: Sequence[Any], shape: Sequence[int], spec: TensorSpec) -> BadTensorError:
    allowed = _LEAVES[spec.numpy_dtype.kind]
    at = next(at for at, leaf in enumerate(leaves) if type(leaf) not in allowed)
    return BadTensorError(f"wants {spec}, has values of another type", _place(at, shape))


def _place(at: int, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(index) for index in np.unravel_index(at, tuple(shape))) if shape else ()


def _filled(leaves: Sequence[Any], shape: Sequence[int], spec: TensorSpec) -> Array:
    if spec.numpy_dtype.kind == "O":
        texts = np.empty(len(leaves), dtype=object)
        texts[:] = leaves
        return texts
    try:
        with np.errstate(over="ignore"):
            return np.array(leaves, dtype=spec.numpy_dtype)
    except OverflowError:
        told = f"wants {spec}, has a number that does not fit"
        raise BadTensorError(told, _place(_first_misfit(leaves, spec), shape)) from None


def _first_misfit(leaves: Sequence[Any], spec: TensorSpec) -> int:
    if spec.numpy_dtype.kind == "f":
        most = int(np.finfo(np.float64).max)
        return next(at for at, leaf in enumerate(leaves) if type(leaf) is int and abs(leaf) > most)
    least, most = int(np.iinfo(spec.numpy_dtype).min), int(np.iinfo(spec.numpy_dtype).max)
    return next(at for at, leaf in enumerate(leaves) if not least <= leaf <= most)


def _of_arrays(value: Any, spec: TensorSpec) -> Array:
    """Lists of arrays, or of numpy's own numbers: what a model's code may give, and JSON never holds."""
    try:
        return np.asarray(value)
    except ValueError:
        raise _uneven(spec) from None


def rough_size(value: Any) -> float:
    """About how much there is to decode: numbers in lists, characters of base64; infinite for what takes long by
    itself.
    """
    if isinstance(value, dict):
        texts = [text for key, text in value.items() if key in ("npy", "base64") and isinstance(text, str)]
        return len(texts[0]) if texts else float("inf")
    size = 1
    while isinstance(value, list):
        size *= len(value)
        value = value[0] if value else None
    if isinstance(value, dict):
        return float("inf")
    return size if isinstance(value, int | float | str | None) else float("inf")
