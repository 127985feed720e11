"""Parts of a message: what a value is called, and what a schema says about it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mlspec.characters import quoted
from mlspec.model.document import Pointer

TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map of keys and values",
    "null": "nothing",
}


def path_of(pointer: Pointer) -> str:
    """`model.adapters[0].name`, for people; `the file` for the whole."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{_in_path(p)}" for p in pointer).lstrip(".")
    return text or "the file"


def _in_path(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else quoted(key)


def described(value: Any) -> str:
    """What stands there: the type, never the value (it may be a secret)."""
    kinds = ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"), (list, "array"), (dict, "object"))
    return next((TYPES[name] for kind, name in kinds if isinstance(value, kind)), "nothing")


def shown(value: Any) -> str:
    """A scalar as it is; of a list or map only what it is."""
    return described(value) if isinstance(value, list | dict) else quoted(value)


def code_of(schema: Mapping[str, Any]) -> str:
    return str(schema.get("x-mlspec-code", "bad-value"))


def help_of(schema: Mapping[str, Any]) -> str:
    example = example_of(schema)
    return str(schema.get("errorMessage") or (f"for example: {example}" if example else ""))


def example_of(schema: Mapping[str, Any]) -> str:
    """The schema's first example in one line of YAML."""
    examples = schema.get("examples") or [schema.get("default", "")]
    return _in_yaml(examples[0]) if examples[0] != "" else ""


def _in_yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_in_yaml, value)) + "]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9 ./_=-]*", value) is not None
    return str(value) if plain else json.dumps(value, ensure_ascii=False)
