"""Tensors in an ONNX file (`TensorProto`): their sizes, and where those lie that are in files of their own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlspec.model_files import BadModelFileError
from mlspec.protobuf import Field, Message, signed

STRING = 8
NAMES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    STRING: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""`TensorProto.DataType`, for what a request or an answer can hold."""
OTHERS = {14: "complex64", 15: "complex128", 16: "bfloat16", 17: "float8", 18: "float8", 19: "float8", 20: "float8"}
OTHERS |= {21: "uint4", 22: "int4", 23: "float4", 24: "float8"}
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8}
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 13, 14
_KEY, _VALUE = 1, 2
_EXTERNAL = 1
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Stored:
    """A tensor with its numbers: `file` is where they lie, up to the byte `end`, None in the ONNX file itself."""

    name: str
    size_bytes: int
    file: str | None = None
    end: int = 0


def stored(message: Message) -> Stored:
    """What a `TensorProto` says. Raises BadModelFileError."""
    dims: list[int] = []
    external: dict[str, str] = {}
    name, data_type, apart = "", 0, False
    for found in message.fields():
        if found.number == _DIMS:
            dims.extend(_dims(message, found))
        elif found.number == _DATA_TYPE:
            data_type = found.value
        elif found.number == _NAME:
            name = message.text(found)
        elif found.number == _EXTERNAL_DATA:
            external |= dict([_entry(message.message(found))])
        elif found.number == _DATA_LOCATION:
            apart = found.value == _EXTERNAL
    size_bytes = -(-math.prod(dims) * _BITS.get(data_type, 0) // 8)
    return _external(name, size_bytes, external) if apart or external else Stored(name, size_bytes)


def _dims(message: Message, found: Field) -> Iterator[int]:
    """A dimension, or several in one field."""
    if found.start is None:
        yield _size(found.value)
        return
    content, at = message.content(found), 0
    while at < len(content):
        value = shift = 0
        while at < len(content):
            byte, at = content[at], at + 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        yield _size(value)


def _size(value: int) -> int:
    if signed(value) < 0:
        raise BadModelFileError("a tensor in it has a size below 0")
    return value


def _entry(message: Message) -> tuple[str, str]:
    """A `StringStringEntryProto`."""
    values = {found.number: message.text(found) for found in message.fields() if found.number in (_KEY, _VALUE)}
    return values.get(_KEY, ""), values.get(_VALUE, "")


def _external(name: str, size_bytes: int, entries: dict[str, str]) -> Stored:
    numbers = {key: entries.get(key) or "0" for key in ("offset", "length")}
    if not all(_NUMBER.fullmatch(number) for number in numbers.values()):
        raise BadModelFileError("a tensor in it lies at no place of a file")
    length = int(numbers["length"]) or size_bytes
    return Stored(name, size_bytes, entries.get("location", ""), int(numbers["offset"]) + length)
