"""Arrays in base64: their bytes with type and shape beside them, or an .npy file. Nothing in them is evaluated."""

from __future__ import annotations

import base64
import binascii
import math
import re
import sys
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from mlspec_runtime.predict.checking import check_shape
from mlspec_runtime.predict.signature import Array, BadTensorError, Dtype, TensorSpec

_MAGIC = b"\x93NUMPY"
_MOST_HEADER_BYTES = 1 << 16
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""Of the header's length, by the format's major version."""
_TYPE = re.compile(r"'descr' *: *'([<>|=]?)([biufUO])(\d{0,9})'")
_ORDER = re.compile(r"'fortran_order' *: *(True|False)")
_SHAPE = re.compile(r"'shape' *: *\(([\d, L]{0,500})\)")
_RAW_KEYS = {"base64", "dtype", "shape"}
_NUMBERS = tuple(name for name in get_args(Dtype) if name != "string")
_MOST_SIZE = 1 << 62


def from_base64(text: Any, key: str) -> bytes:
    """The bytes. Raises BadTensorError for what is no base64 (RFC 4648, padded, without line breaks)."""
    if not isinstance(text, str):
        raise BadTensorError("wants a text in base64", (key,))
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise BadTensorError("is no base64: it has another character in it, or its end is missing", (key,)) from None


def only_key(value: Mapping[str, Any], key: str) -> Any:
    """The value of the one key. Raises BadTensorError if there are others."""
    for other in value:
        if other != key:
            raise BadTensorError(f"is no key beside {key}", (other,))
    return value[key]


def npy(value: Mapping[str, Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`{"npy": base64}`."""
    content = from_base64(only_key(value, "npy"), "npy")
    try:
        return npy_file(content, spec, sizes)
    except BadTensorError as fault:
        raise BadTensorError(str(fault), ("npy",)) from None


def raw(value: Mapping[str, Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`{"base64": ..., "dtype": ..., "shape": [...]}`: little-endian, the last dimension's elements side by side."""
    for key in sorted(_RAW_KEYS ^ value.keys()):
        told = "is missing: base64 comes with dtype and shape" if key in _RAW_KEYS else "is no key beside base64"
        raise BadTensorError(told, (key,))
    name, shape = value["dtype"], value["shape"]
    if not isinstance(name, str) or name not in _NUMBERS:
        raise BadTensorError(f"wants one of {', '.join(_NUMBERS)}", ("dtype",))
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < _MOST_SIZE for size in shape):
        raise BadTensorError("wants a list of sizes", ("shape",))
    check_shape(shape, spec, dict(sizes))
    content = from_base64(value["base64"], "base64")
    try:
        return _numbers(content, np.dtype(name).newbyteorder("<"), tuple(shape), "C")
    except BadTensorError as fault:
        raise BadTensorError(str(fault), ("base64",)) from None


def npy_file(content: bytes, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """An .npy file (numpy.lib.format, versions 1 to 3). What its header says is held against the declared shape and
    the bytes that are there before anything is made of it. Raises BadTensorError.
    """
    header, data = _parted(content)
    dtype, order, shape = _described(header)
    check_shape(shape, spec, dict(sizes))
    return _numbers(data, dtype, shape, order)


def _parted(content: bytes) -> tuple[str, memoryview]:
    """Header and data."""
    version = content[6] if content.startswith(_MAGIC) and len(content) > 7 else 0
    if version not in _LENGTH_BYTES:
        raise BadTensorError("is no .npy file: numpy.save writes one")
    begin = 8 + _LENGTH_BYTES[version]
    length = int.from_bytes(content[8:begin], "little")
    if length > min(_MOST_HEADER_BYTES, len(content) - begin):
        raise BadTensorError("is an .npy file whose header is cut or too long")
    end = begin + length
    return content[begin:end].decode("latin-1"), memoryview(content)[end:]


def _described(header: str) -> tuple[np.dtype[Any], str, tuple[int, ...]]:
    """Type, order and shape. numpy writes a Python dict there; of it these three are read, and nothing else."""
    kind, order, sizes = _TYPE.search(header), _ORDER.search(header), _SHAPE.search(header)
    if kind is None or order is None or sizes is None:
        raise BadTensorError("is an .npy file of another type: numbers, booleans and texts are taken, one array a file")
    if kind[2] == "O":
        raise BadTensorError("is an .npy file with pickled objects, which are never loaded; save numbers or texts")
    shape = tuple(int(size.strip(" L")) for size in sizes[1].split(",") if size.strip(" L").isdigit())
    try:
        dtype = np.dtype(kind[0].split("'")[3])
    except TypeError:
        raise BadTensorError("is an .npy file of a type that numpy doesn't know") from None
    return dtype, "F" if order[1] == "True" else "C", shape


def _numbers(data: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> Array:
    wanted_bytes = math.prod(shape) * dtype.itemsize
    # Elements of no bytes could be any number of them.
    if dtype.itemsize == 0 or wanted_bytes != len(data):
        raise BadTensorError(f"has {len(data)} bytes, where {dtype.name}{list(shape)} has {wanted_bytes}")
    _check_elements(data, dtype)
    try:
        # Of none, numpy makes nothing from a buffer; it has a bound on sizes, even then.
        array: Array = np.frombuffer(data, dtype=dtype) if len(data) else np.empty(0, dtype=dtype)
        return array.reshape(shape, order=order)
    except ValueError:
        raise BadTensorError(f"has the shape {list(shape)}, which is too large") from None


def _check_elements(data: bytes | memoryview, dtype: np.dtype[Any]) -> None:
    """That each is a value of its type: numpy believes the bytes, and stumbles over them later."""
    if dtype.kind == "b" and np.frombuffer(data, dtype=np.uint8).max(initial=0) > 1:
        raise BadTensorError("has booleans that are neither 0 nor 1")
    if dtype.kind == "U":
        characters = np.frombuffer(data, dtype=np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if characters.max(initial=0) > sys.maxunicode:
            raise BadTensorError("has a text that is not Unicode")
