"""What a Core ML model takes and gives, from its specification: Model.proto and FeatureTypes.proto of coremltools 9.

https://apple.github.io/coremltools/mlmodel/Format/FeatureTypes.html
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlspec.characters import visible
from mlspec.model_files import BadModelFileError
from mlspec.protobuf import Field, Message, opened, signed

Kind = Literal["array", "image", "int64", "double", "string", "dictionary", "sequence", "state"]

_VERSION, _DESCRIPTION = 1, 2
_INPUT, _OUTPUT, _FUNCTIONS, _STATE = 1, 10, 20, 13
_NAME, _TYPE = 1, 3
_KINDS: Mapping[int, Kind] = {
    1: "int64",
    2: "double",
    3: "string",
    4: "image",
    5: "array",
    6: "dictionary",
    7: "sequence",
    8: "state",
}
_OPTIONAL = 1000
_ARRAY_DTYPES = {65552: "float16", 65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8"}
_SHAPE, _DTYPE, _ENUMERATED, _RANGE = 1, 2, 21, 31
_COLORS = {10: "gray", 20: "rgb", 30: "rgb"}
"""Of BGR images a service takes RGB ones: Core ML itself turns the channels of the image that it is given."""
_WIDTH, _HEIGHT, _COLOR = 1, 2, 3
_MOST = 1000
"""Dimensions of an array, or shapes that it may have."""
_MOST_VERSIONS = 1000
_NO_BOUND = 2**31 - 1
"""As coremltools writes it, beside -1."""

MACOS_OF_VERSION = {5: "11", 6: "12", 7: "13", 8: "14", 9: "15", 10: "26"}
"""The first macOS that reads a specification's version (coremltools, `_SPECIFICATION_VERSION_IOS_*`)."""


@dataclass(frozen=True)
class Feature:
    """One input or output. `shape` is an array's usual one, or an image's height and width; empty if the file doesn't
    tell. `ranges` has the least and the most of each dimension (None: no bound), `shapes` all that it may be.
    """

    name: str
    kind: Kind
    dtype: str | None = None
    shape: tuple[int, ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    color: str | None = None
    optional: bool = False

    def as_data(self) -> dict[str, Any]:
        """JSON data, without what is unset."""
        values = {name: getattr(self, name) for name in Feature.__dataclass_fields__}
        return {name: value for name, value in values.items() if value not in (None, (), False)}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Feature:
        """The inverse of `as_data`."""
        lists = {key: tuple(map(tuple, data[key])) for key in ("ranges", "shapes") if key in data}
        return Feature(**{**data, "shape": tuple(data.get("shape", ())), **lists})


@dataclass(frozen=True)
class Specification:
    """`version` says which systems read it; `functions` is how many entry points it has, beside its only one."""

    version: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    states: int
    functions: int


def read_specification(path: Path) -> Specification:
    """The specification in a model's file, whose weights are not read.

    Raises:
        BadModelFileError: it is none.
        OSError: it can't be read.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        return _specification(opened(handle))
    except BadModelFileError as problem:
        raise BadModelFileError(f"{visible(path.name)}: is no model of Core ML: {problem}") from problem
    finally:
        os.close(handle)


def _specification(model: Message) -> Specification:
    version, inputs, outputs, states, functions = 0, list[Feature](), list[Feature](), 0, 0
    for top in model.fields():
        if top.number == _VERSION:
            version = top.value
        elif top.number == _DESCRIPTION:
            description = model.message(top)
            for found in description.fields():
                if found.number in (_INPUT, _OUTPUT):
                    (inputs if found.number == _INPUT else outputs).append(_feature(description.message(found)))
                states += found.number == _STATE
                functions += found.number == _FUNCTIONS
    if not 1 <= version <= _MOST_VERSIONS or not (outputs or functions):
        raise BadModelFileError("it describes no outputs")
    return Specification(version, tuple(inputs), tuple(outputs), states, functions)


def _feature(given: Message) -> Feature:
    name, own = "", dict[str, Any]()
    for found in given.fields():
        if found.number == _NAME:
            name = given.text(found)
        elif found.number == _TYPE:
            own |= _type(given.message(found))
    if not name or "kind" not in own:
        raise BadModelFileError("it has an input or output without a name or a type")
    return Feature(name, **own)


def _type(given: Message) -> Iterator[tuple[str, Any]]:
    for found in given.fields():
        if found.number in _KINDS:
            yield "kind", _KINDS[found.number]
            if _KINDS[found.number] in _DETAILS:
                yield from _DETAILS[_KINDS[found.number]](given.message(found))
        elif found.number == _OPTIONAL:
            yield "optional", bool(found.value)


def _array(given: Message) -> Iterator[tuple[str, Any]]:
    shape, shapes, ranges = list[int](), list[tuple[int, ...]](), list[tuple[int, int | None]]()
    for found in given.fields():
        if found.number == _SHAPE:
            shape += _numbers(given, found)
        elif found.number == _DTYPE:
            yield "dtype", _array_dtype(found.value)
        elif found.number == _ENUMERATED:
            shapes += [tuple(_all_numbers(one)) for one in _messages(given.message(found), 1)]
        elif found.number == _RANGE:
            ranges += [_range(one) for one in _messages(given.message(found), 1)]
    if max(len(shape), len(shapes), len(ranges)) > _MOST:
        raise BadModelFileError("it has an array of too many dimensions or shapes")
    yield from (("shape", tuple(shape)), ("shapes", tuple(shapes)), ("ranges", tuple(ranges)))


def _array_dtype(number: int) -> str:
    if number not in _ARRAY_DTYPES:
        raise BadModelFileError(f"it has an array of the unknown type {number}")
    return _ARRAY_DTYPES[number]


def _range(given: Message) -> tuple[int, int | None]:
    """The least and the most; a size of none, and no bound, are left out of the message or negative."""
    values = {found.number: signed(found.value) for found in given.fields()}
    most = values.get(2, 0)
    return max(0, values.get(1, 0)), None if most < 0 or most >= _NO_BOUND else most


def _image(given: Message) -> Iterator[tuple[str, Any]]:
    values = {found.number: found.value for found in given.fields()}
    color = _COLORS.get(values.get(_COLOR, 0))
    if color is None:
        raise BadModelFileError("it has an image of a colour space that no request can hold")
    yield from (("dtype", "uint8"), ("shape", (values.get(_HEIGHT, 0), values.get(_WIDTH, 0))), ("color", color))


_DETAILS: Mapping[Kind, Callable[[Message], Iterator[tuple[str, Any]]]] = {"image": _image, "array": _array}


def _messages(given: Message, number: int) -> Iterator[Message]:
    return (given.message(found) for found in given.fields() if found.number == number)


def _all_numbers(given: Message) -> Iterator[int]:
    for found in given.fields():
        yield from _numbers(given, found)


def _numbers(given: Message, found: Field) -> Iterator[int]:
    """Repeated whole numbers, packed into one field or not."""
    if found.start is None:
        yield signed(found.value)
        return
    content = given.content(found)
    value = shift = 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield signed(value & ((1 << 64) - 1))
            value = shift = 0
