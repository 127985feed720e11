"""Keys of a spec that aren't decided: what the spec says, or what is so without it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.model.document import Document, Pointer
from mlspec.passes.validate.checker import shipped
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.quoted_line import Line
from mlspec.reporting.plan.story import folded, quoted
from mlspec.reporting.plan.values import in_words
from mlspec.reporting.plan.walking import ABSENT, at, entry
from mlspec.reporting.words import on_one_line

_STEP = re.compile(r"[^.\[\]]+")
_MARGIN = "  "


def spec_story(key: str, document: Document, look: Look) -> str | None:
    """What the spec says of a key, as in `service.limits.timeout_s` or `targets[0].platform`; else the default.

    None if a spec has no such key.
    """
    pointer: Pointer = tuple(int(step) if step.isdecimal() else step for step in _STEP.findall(key))
    if not pointer:
        return None
    if pointer in document.places:
        lines = _as_written(key, pointer, document, look)
    elif (schema := _schema_at(pointer, document.data)) is not None:
        lines = _by_default(key, schema, document, look)
    else:
        return None
    return "".join(f"{line}\n" for line in lines)


def _as_written(key: str, pointer: Pointer, document: Document, look: Look) -> Iterator[str]:
    value: Any = document.data
    for step in pointer:
        value = entry(value, step)
    span = document.key_span(pointer)
    yield from _heading(key, in_words(key, value), "as the spec says", look)
    yield from ("", look.paint("bold", "from"), f"{_MARGIN}{on_one_line(span.file)}:{span.line}:{span.column}")
    text = document.text.splitlines()[span.line - 1] if span.line else ""
    yield quoted(Line(span.line, text, span.column), _MARGIN, look)


def _by_default(key: str, schema: Mapping[str, Any], document: Document, look: Look) -> Iterator[str]:
    default = schema.get("default", ABSENT)
    value = "not set" if default is ABSENT or default in ({}, [], "") else in_words(key, default)
    yield from _heading(key, value, "the default", look)
    yield from ("", *folded(on_one_line(str(schema.get("description", ""))), _MARGIN, look))
    yield from ("", *folded(on_one_line(f"{document.shown} says nothing of it"), _MARGIN, look))


def _heading(key: str, value: str, said_by: str, look: Look) -> list[str]:
    return folded(f"{look.paint('bold', on_one_line(key))}: {look.paint('bold', value)}  ({said_by})", "", look)


def _schema_at(pointer: Pointer, data: Any) -> Mapping[str, Any] | None:
    """The schema of a key; of `model` that of its runner, if mlspec brings it."""
    found: Mapping[str, Any] = shipped("mlspec")
    for step in pointer:
        found = _resolved(found)
        below = found.get("items") if isinstance(step, int) else _properties(found, data).get(step)
        if not isinstance(below, Mapping):
            return None
        found = below
    return _resolved(found)


def _properties(schema: Mapping[str, Any], data: Any) -> Mapping[str, Any]:
    known = dict(schema.get("properties", {}))
    runner = at(data, ["model", "runner"])
    for branch in schema.get("allOf", ()):
        if at(branch, ["if", "properties", "runner", "const"]) == runner:
            known |= _resolved(branch["then"]).get("properties", {})
    return known


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """With what it refers to; its own words come first."""
    if "$ref" not in schema:
        return schema
    named = shipped("mlspec")["$defs"][schema["$ref"].rpartition("/")[2]]
    return {**_resolved(named), **{name: part for name, part in schema.items() if name != "$ref"}}
