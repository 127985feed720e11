"""Requests for a model of tensors, made from what its plan says of them: random numbers in their ranges."""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from mlspec.bench.words import text

BODIES = 16
"""Different requests, which then come a little otherwise each time."""
_NAMED_SIZE = 32
"""Of a dimension that has a name and isn't the first."""
_MOST_IN_LISTS = 1024
_WORDS = 16
_FORMATS = {
    **{
        "bool": ("?", "|b1"),
        "int8": ("b", "|i1"),
        "uint8": ("B", "|u1"),
        "int16": ("h", "<i2"),
        "uint16": ("H", "<u2"),
    },
    **{"int32": ("i", "<i4"), "uint32": ("I", "<u4"), "int64": ("q", "<i8"), "uint64": ("Q", "<u8")},
    **{"float16": ("e", "<f2"), "float32": ("f", "<f4"), "float64": ("d", "<f8")},
}
"""How struct and numpy call them."""


def generated(inputs: Sequence[Mapping[str, Any]], rows: int, seed: int) -> tuple[Mapping[str, Any], ...]:
    """Bodies of `POST /predict` of so many rows, for the inputs of a plan (`runner.settings.requests.inputs`)."""
    return tuple(
        {"inputs": {spec["name"]: _value(spec, rows, f"{seed}/{number}/{spec['name']}") for spec in inputs}}
        for number in range(BODIES)
    )


def _value(spec: Mapping[str, Any], rows: int, seed: str) -> Any:
    shape = [size if isinstance(size, int) else _NAMED_SIZE if at else rows for at, size in enumerate(spec["shape"])]
    # Not for secrets: a request is to be the same on every computer.
    chance = random.Random(seed)  # noqa: S311
    numbers = [_one(spec, chance) for _ in range(prod(shape))]
    if spec["dtype"] == "string" or len(numbers) <= _MOST_IN_LISTS:
        return _nested(iter(numbers), shape)
    return {"npy": base64.b64encode(_npy(numbers, spec["dtype"], shape)).decode("ascii")}


def _one(spec: Mapping[str, Any], chance: random.Random) -> Any:
    dtype: str = spec["dtype"]
    if dtype == "string":
        return text(str(chance.random()), _WORDS)
    if dtype == "bool":
        return chance.random() < 0.5
    image = spec.get("image")
    most = 255 / image.get("divide_by", 1) if image else 1
    low, high = (
        spec.get("minimum", min(0, spec.get("maximum", 0))),
        spec.get("maximum", max(most, spec.get("minimum", 0))),
    )
    return round(chance.uniform(low, high), 4) if dtype.startswith("float") else chance.randint(int(low), int(high))


def _nested(values: Iterator[Any], shape: Sequence[int]) -> Any:
    return [_nested(values, shape[1:]) for _ in range(shape[0])] if shape else next(values)


def _npy(numbers: Sequence[Any], dtype: str, shape: Sequence[int]) -> bytes:
    """An .npy file (its format's version 1.0)."""
    letter, name = _FORMATS[dtype]
    sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    header = f"{{'descr': '{name}', 'fortran_order': False, 'shape': ({sizes}), }}"
    padded = header + " " * (-(len(header) + 11) % 64) + "\n"
    return (
        b"\x93NUMPY\x01\x00"
        + struct.pack("<H", len(padded))
        + padded.encode()
        + struct.pack(f"<{len(numbers)}{letter}", *numbers)
    )
