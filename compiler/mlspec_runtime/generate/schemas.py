"""What can be said of a JSON Schema at once, without compiling it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_OF_ONE = ("additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
_OF_SEVERAL = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_BY_NAME = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")


def check_parameters(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments, which are an object. Raises ValueError if it is one of something else, or names
    types that don't exist.
    """
    waiting: list[Any] = [schema]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Mapping):
            if "type" in inner and not TYPES.issuperset(_names(inner["type"])):
                raise ValueError(f"'type' must be one of {', '.join(sorted(TYPES))}, wherever it stands")
            waiting.extend(_inside(inner))
    if "type" in schema and "object" not in _names(schema["type"]):
        raise ValueError("parameters describe an object: their 'type' must be 'object'")
    return schema


def _names(given: Any) -> list[Any]:
    names = given if isinstance(given, list) else [given]
    # What can't be looked up in a set is no name.
    return [name if isinstance(name, str) else None for name in names]


def _inside(schema: Mapping[str, Any]) -> Iterator[Any]:
    yield from (schema[key] for key in _OF_ONE if key in schema)
    for key in _OF_SEVERAL:
        if isinstance(schema.get(key), list):
            yield from schema[key]
    for key in _BY_NAME:
        if isinstance(schema.get(key), Mapping):
            yield from schema[key].values()
