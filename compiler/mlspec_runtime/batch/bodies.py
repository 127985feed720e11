"""Rows that are requests: columns by the names of the request's fields, one request a row, many under way at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from mlspec_runtime.batch.asking import ask
from mlspec_runtime.batch.columns import Column, Kind
from mlspec_runtime.batch.computers import Answers
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.pieces import Piece, Wanted
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.plan import Limits
from mlspec_runtime.protocol import Runner

_TEXT = "text"
"""The column of a folder of texts."""
_LEFT_OUT = ("request_id", "timings", "tokens", "cached")
_KINDS: Mapping[str, Kind] = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


def fields_of(runner: Runner, names: Sequence[str] | None, given: Mapping[str, str]) -> dict[str, str]:
    """The column of each field that has one. Raises BatchError: none has, or what was given isn't there."""
    fields = list(runner.request_type.model_fields)
    if unknown := [name for name in given if name not in fields]:
        message = f"--column {unknown[0]}=…: a request has no '{unknown[0]}'"
        raise BatchError("columns", message, f"it has {', '.join(fields)}")
    if missing := [column for column in given.values() if names is not None and column not in names]:
        raise BatchError("columns", f"the input has no column '{missing[0]}'", f"it has {', '.join(names or ())}")
    found = {field: given.get(field, field) for field in fields if field in given or names is None or field in names}
    if not found and names is not None and _TEXT in names:
        found = {fields[0]: _TEXT}
    if not found:
        message = f"no column of the input is a part of a request; it has {', '.join(names or ())}"
        raise BatchError("columns", message, f"say which column is which: --column {fields[0]}=COLUMN")
    return found


class BodyRows:
    """Asks a runner whose requests are made of a row's values."""

    rows_at_once = 1

    def __init__(self, runner: Runner, fields: Mapping[str, str], limits: Limits) -> None:
        self._runner = runner
        self._fields = fields
        # Some wait in the queue, so that no place of the batch stays empty.
        self.requests_at_once = limits.concurrency + min(limits.queue, limits.concurrency)
        self._types = _field_types(runner.request_type)
        self._columns, self._paths = _answer_columns(runner.response_type)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self._columns

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self._fields.values())

    async def compute(self, piece: Piece) -> Answers:
        rows: list[int] = []
        table: dict[str, list[Any]] = {column.name: [] for column in self._columns}
        errors: dict[int, ServiceError] = {}
        for row in range(piece.rows):
            try:
                answer = await ask(self._runner, self._body(piece.part(row, row + 1)), f"row-{piece.first + row}")
            except ServiceError as error:
                errors[row] = error
                continue
            rows.append(row)
            told = answer.model_dump(mode="json")
            for column in self._columns:
                table[column.name].append(_at(told, self._paths[column.name]))
        return Answers(rows, table, errors)

    def _body(self, piece: Piece) -> dict[str, Any]:
        """What the row has no value for is not in the request."""
        values = {field: piece.values(column, Wanted())[0] for field, column in self._fields.items()}
        fitted = {field: _fitted(value, self._types[field]) for field, value in values.items()}
        return {field: _without_nulls(value) for field, value in fitted.items() if value is not None}


def _fitted(value: Any, types: frozenset[str]) -> Any:
    """A cell as the field takes it: text may stand for numbers and lists, and pandas makes 16.0 of 16."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, str) and "string" not in types:
        try:
            return json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            return value
    if value == "" and "null" in types:
        return None
    if isinstance(value, float):
        if value != value:
            return None
        if "number" not in types and value.is_integer():
            return int(value)
    return value


def _without_nulls(value: Any) -> Any:
    """What files of tables write as null where a key is missing."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _field_types(request_type: type[BaseModel]) -> dict[str, frozenset[str]]:
    """The JSON types that each field takes."""
    schema = request_type.model_json_schema()
    definitions = schema.get("$defs", {})
    return {name: frozenset(_types(field, definitions)) for name, field in schema["properties"].items()}


def _types(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> set[str]:
    if "$ref" in schema:
        return _types(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    several = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if several:
        return set().union(*(_types(one, definitions) for one in several))
    kind = schema.get("type", "object")
    return set(kind) if isinstance(kind, list) else {kind}


def _answer_columns(response_type: type[BaseModel]) -> tuple[tuple[Column, ...], dict[str, tuple[str, ...]]]:
    """The answer's fields as columns, and where in it each is; those of objects of numbers stand for themselves."""
    schema = response_type.model_json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    paths: dict[str, tuple[str, ...]] = {}
    columns = []
    for name, field in schema["properties"].items():
        inner = definitions.get(field.get("$ref", "").rpartition("/")[2], {}).get("properties")
        parts = {(name, key): part for key, part in inner.items()} if inner else {(name,): field}
        for path, part in parts.items() if name not in _LEFT_OUT else ():
            columns.append(Column(path[-1], _kind(_types(part, definitions))))
            paths[path[-1]] = path
    return tuple(columns), paths


def _kind(types: set[str]) -> Kind:
    (only, *more) = sorted(types - {"null"}) or ["object"]
    return _KINDS.get(only, "json") if not more else "json"


def _at(told: Any, path: Sequence[str]) -> Any:
    for key in path:
        told = told[key]
    return told
