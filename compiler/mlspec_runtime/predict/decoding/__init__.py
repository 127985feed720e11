"""From what a request holds for an input (lists, base64, .npy, images, tables) to the declared array, in bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.checking import check_range, checked
from mlspec_runtime.predict.decoding import encoded, images, lists, parquet, tables
from mlspec_runtime.predict.decoding.file import File
from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec

Decode = Callable[[Any, TensorSpec, dict[str, int]], Array]
SMALL = 4096
"""Numbers in lists, or characters of base64: what is decoded sooner than a thread could begin with it."""
_ENCODINGS: Mapping[str, Decode] = {
    "npy": encoded.npy,
    "base64": encoded.raw,
    "image": images.one,
    "csv": tables.csv_text,
    "parquet": parquet.encoded,
}
_FILES: Mapping[str, Decode] = {
    "application/x-npy": encoded.npy_file,
    **dict.fromkeys(images.MEDIA_TYPES, images.file),
    "text/csv": tables.csv_file,
    parquet.MEDIA_TYPE: parquet.file,
}


def decode(values: Mapping[str, Any], specs: Sequence[TensorSpec], sizes: dict[str, int]) -> dict[str, Array]:
    """The arrays of a request: of the declared types, shapes and ranges. `sizes` is added to: what named dimensions
    stand for in it.

    Raises ServiceError: 422 with the place of what is wrong as `field`, 415 where a library isn't there.
    """
    return {spec.name: _decoded(values[spec.name], spec, sizes) for spec in specs}


def _decoded(value: Any, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    try:
        array = _array(value, spec, sizes)
        if array.shape[:1] == (0,) and spec.shape and isinstance(spec.shape[0], str):
            raise BadTensorError(f"wants {spec}, has an empty batch: send a row at least")
        array = checked(array, spec, sizes)
        _check_sizes(array, spec)
        check_range(array, spec)
    except BadTensorError as fault:
        field = ".".join(map(str, ("inputs", spec.name, *fault.path)))[:200]
        raise ServiceError("invalid_request", f"{field}: {fault}", 422, field=field) from None
    return array


def _check_sizes(array: Array, spec: TensorSpec) -> None:
    """That nothing is empty but what is declared so: no model computes no rows."""
    if array.size:
        return
    for declared, size in zip(spec.shape, array.shape, strict=True):
        if isinstance(declared, str) and not size:
            raise BadTensorError(f"wants {spec} with {declared} of at least 1; has the shape {list(array.shape)}")


def _array(value: Any, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    if isinstance(value, dict):
        return _of_object(value, spec, sizes)
    if isinstance(value, File):
        return _FILES[value.media_type](value.content, spec, sizes)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        if spec.image is not None:
            return images.many(value, spec, sizes)
        if spec.columns:
            return tables.records(value, spec, sizes)
    return lists.array_of(value, spec)


def _of_object(value: Mapping[str, Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """A value that says its encoding by its one key; `base64` has two more."""
    taken = encodings(spec)
    named = [key for key in taken if key in value]
    if len(named) != 1:
        forms = ", ".join(taken)
        raise BadTensorError(f"wants {spec}: nested lists, or an object with one of the keys {forms}")
    return _ENCODINGS[named[0]](value, spec, sizes)


def encodings(spec: TensorSpec) -> tuple[str, ...]:
    """The keys of objects that may stand for this input."""
    image = ("image",) if spec.image is not None else ()
    table = ("csv", "parquet") if spec.columns else ()
    return ("npy", "base64", *image, *table)


def file_types(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The media types of bodies that are a request by themselves: those of a service with a single input."""
    if len(specs) != 1:
        return ()
    image = images.MEDIA_TYPES if specs[0].image is not None else ()
    table = ("text/csv", parquet.MEDIA_TYPE) if specs[0].columns else ()
    return ("application/x-npy", *image, *table)


def is_small(values: Mapping[str, Any]) -> bool:
    """Whether decoding takes less than handing it to a thread. Images never do, nor do tables."""
    return all(lists.rough_size(value) <= SMALL for value in values.values())


def check_libraries(specs: Sequence[TensorSpec]) -> None:
    """That what images need is installed. Raises ServiceError (503)."""
    if any(spec.image is not None for spec in specs):
        images.check_library()
