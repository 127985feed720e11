"""Rows of named columns as arrays: records of JSON, and CSV. Columns come in any order, all of them and no other."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlspec_runtime.predict.decoding.encoded import only_key
from mlspec_runtime.predict.decoding.lists import array_of
from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec

_SHOWN = 60
_LONGEST_CELL = 131_072
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def records(value: Sequence[Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`[{column: value, ...}, ...]`."""
    columns = spec.columns
    rows = [_values(record, columns, row) for row, record in enumerate(value)]
    return of_rows(rows, spec)


def _values(record: Any, columns: Sequence[str], row: int) -> list[Any]:
    if not isinstance(record, dict):
        raise BadTensorError("wants an object with the columns in each place of the list", (row,))
    try:
        values = [record[name] for name in columns]
    except KeyError as missing:
        raise BadTensorError("is missing", (row, str(missing.args[0]))) from None
    if len(record) > len(columns):
        raise BadTensorError("is no column", (row, next(key for key in record if key not in columns)[:_SHOWN]))
    return values


def of_rows(rows: Sequence[Sequence[Any]], spec: TensorSpec) -> Array:
    """Rows of values as the array; the place of a fault has the column's name. Raises BadTensorError."""
    if len(spec.shape) == 1 and len(rows) != 1:
        raise BadTensorError(f"wants {spec}: one row, not {len(rows)}")
    value = rows[0] if len(spec.shape) == 1 else list(rows)
    try:
        return array_of(value, spec)
    except BadTensorError as fault:
        raise BadTensorError(str(fault), _named(fault.path, spec)) from None


def _named(path: tuple[int | str, ...], spec: TensorSpec) -> tuple[int | str, ...]:
    if path and isinstance(path[-1], int) and path[-1] < len(spec.columns):
        return (*path[:-1], spec.columns[path[-1]])
    return path


def csv_text(value: Mapping[str, Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`{"csv": text}`."""
    text = only_key(value, "csv")
    if not isinstance(text, str):
        raise BadTensorError("wants a text", ("csv",))
    return _of_csv(text, spec)


def csv_file(content: bytes, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """A body that is CSV (RFC 4180) in UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise BadTensorError(f"is not UTF-8 at byte {fault.start}") from None
    return _of_csv(text, spec)


def _of_csv(text: str, spec: TensorSpec) -> Array:
    """The first line has the names of the columns; the others have a row each, empty ones none."""
    csv.field_size_limit(_LONGEST_CELL)  # the whole process's, which others set for files
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        order = column_order(_header(next(reader, []), spec), spec.columns)
        rows = [_parsed(cells, order, spec, row) for row, cells in enumerate(filter(None, reader))]
    except csv.Error:
        raise BadTensorError(f"is no CSV at line {reader.line_num}") from None
    return of_rows(rows, spec)


def _header(names: list[str], spec: TensorSpec) -> list[str]:
    """The first line, where it is one of a table with commas. Raises BadTensorError."""
    if not names:
        raise BadTensorError(f"is empty: its first line names the columns {', '.join(spec.columns)}"[:200])
    if len(names) == 1 and names[0] not in spec.columns:
        for separator, word in ((";", "semicolons"), ("\t", "tabs")):
            if separator in names[0]:
                raise BadTensorError(f"has columns that {word} separate: write it with commas")
    return names


def column_order(names: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Where each of the columns is among the names of a table. Raises BadTensorError if one is missing, twice there, or
    not known.
    """
    for name in columns:
        if names.count(name) != 1:
            raise BadTensorError(f"is {'missing' if name not in names else 'twice there'}", (name,))
    for name in names:
        if name not in columns:
            raise BadTensorError("is no column", (name[:_SHOWN],))
    return [names.index(name) for name in columns]


def _parsed(cells: Sequence[str], order: Sequence[int], spec: TensorSpec, row: int) -> list[Any]:
    if len(cells) != len(order):
        raise BadTensorError(f"has {len(cells)} cells, where the first line has {len(order)}", (row,))
    parse = _PARSERS[spec.numpy_dtype.kind]
    values = []
    for at, name in zip(order, spec.columns, strict=True):
        try:
            values.append(parse(cells[at]))
        except (ValueError, KeyError):
            raise BadTensorError(f"is no {_WORDS[spec.numpy_dtype.kind]}", (row, name)) from None
    return values


def _number(text: str) -> float:
    """Python would take 1_000, too."""
    if "_" in text:
        raise ValueError
    return float(text)


def _integer(text: str) -> int:
    if "_" in text:
        raise ValueError
    return int(text)


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "b": lambda text: _BOOLEANS[text.strip().lower()],
    "i": _integer,
    "u": _integer,
    "f": _number,
    "O": str,
}
_WORDS = {"b": "boolean (true, false, 1 or 0)", "i": "whole number", "u": "whole number", "f": "number", "O": "text"}
