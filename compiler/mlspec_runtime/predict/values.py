"""Named tensors in answers: as declared, and as they are sent."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlspec_runtime.predict.checking import checked
from mlspec_runtime.predict.decoding.lists import array_of
from mlspec_runtime.predict.signature import Array, TensorSpec


def conform(value: Any, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`value` (nested lists, or an array) as the declared tensor. No value may change by it; floats may be rounded.

    `sizes` holds what named dimensions stand for so far, and is added to. Raises BadTensorError.
    """
    return checked(array_of(value, spec), spec, sizes)


def to_lists(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Arrays as nested lists."""
    return {name: array.tolist() for name, array in arrays.items()}


def written(arrays: Mapping[str, Array], encoding: str) -> dict[str, Any]:
    """Arrays as nested lists, or with the encoding `npy` as `{"npy": base64}`. Texts stay lists: .npy would make all of
    them as long as the longest.
    """
    if encoding != "npy":
        return to_lists(arrays)
    return {name: array.tolist() if array.dtype.kind == "O" else _npy(array) for name, array in arrays.items()}


def _npy(array: Array) -> dict[str, str]:
    return {"npy": base64.b64encode(npy_bytes(array)).decode("ascii")}


def npy_bytes(array: Array) -> bytes:
    """An .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def labels(arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> dict[str, Any] | None:
    """What the numbers stand for, by the names of outputs that have labels; None if none has.

    Whole numbers have one label each (None for a number beyond them), scores that of the highest of the last
    dimension.
    """
    found = {spec.name: _labels(arrays[spec.name], spec) for spec in specs if spec.labels}
    return found or None


def _labels(array: Array, spec: TensorSpec) -> Any:
    if array.dtype.kind == "f":
        array = array.argmax(axis=-1) if array.size else array[..., 0].astype(int)
    known = len(spec.labels)
    names = np.array([*spec.labels, None], dtype=object)
    at = np.where((array >= 0) & (array < known), array, known).astype(np.int64)
    return names[at].tolist() if at.ndim else names[int(at)]
