"""What an exported program takes and gives, from its JSON description (torch/_export/serde/schema.py, version 8)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# `ScalarType` of that file, for what a request or an answer can hold.
_DTYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    34: "uint32",
    35: "uint64",
}
_READ_VERSION = 8


class UnknownProgramError(ValueError):
    """The description is of another version than is known here, or of a network that a service can't ask."""


def signature(description: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """`inputs` and `outputs` in their order: name, dtype (as torch calls it) and shape, where `batch` is the first
    dimension if that may have any size, and others that may are `size_1` and so on.

    Raises:
        UnknownProgramError: it can't be told.
    """
    try:
        version = description["schema_version"]["major"]
        graph = description["graph_module"]["graph"]
        specs = description["graph_module"]["signature"]
        if version != _READ_VERSION:
            raise UnknownProgramError(f"its description is of version {version}, and {_READ_VERSION} is read")
        sizes = _Sizes()
        values = graph["tensor_values"]
        inputs = [_tensor(name, values[name], sizes) for name in _named(specs["input_specs"], "user_input")]
        outputs = list(_named(specs["output_specs"], "user_output"))
        given = [_tensor(_output(at, len(outputs)), values[name], sizes) for at, name in enumerate(outputs)]
    except (KeyError, TypeError, AttributeError, IndexError) as problem:
        raise UnknownProgramError("its description isn't as torch writes it") from problem
    return {"inputs": inputs, "outputs": given}


def _named(specs: list[Mapping[str, Any]], kind: str) -> Iterator[str]:
    """The names in the graph of what its caller gives or gets."""
    for spec in specs:
        if kind in spec:
            argument = spec[kind]["arg"]
            if "as_tensor" not in argument:
                raise UnknownProgramError(
                    f"it {'takes' if kind == 'user_input' else 'gives'} something else than tensors"
                )
            yield argument["as_tensor"]["name"]


def _output(at: int, of: int) -> str:
    return "output" if of == 1 else f"output_{at}"


def _tensor(name: str, value: Mapping[str, Any], sizes: _Sizes) -> dict[str, Any]:
    dtype = _DTYPES.get(value["dtype"])
    if dtype is None:
        raise UnknownProgramError(f"'{name}' is of a type that no request can hold")
    return {"name": name, "dtype": dtype, "shape": [sizes.told(size, at) for at, size in enumerate(value["sizes"])]}


class _Sizes:
    """Names for the sizes that the program leaves open: the same for the same expression."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def told(self, size: Mapping[str, Any], at: int) -> int | str:
        if "as_int" in size:
            return int(size["as_int"])
        expression = str(size["as_expr"]["expr_str"])
        if expression not in self._names:
            usual = "batch" if at == 0 and "batch" not in self._names.values() else f"size_{len(self._names)}"
            self._names[expression] = usual
        return self._names[expression]
