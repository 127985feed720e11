"""JSON Schema as mlspec reads it: stock jsonschema, patterns that match whole texts, and named checks of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from mlspec.model.document import Pointer
from mlspec.resources import folder

CHECK = "x-mlspec-check"
"""Names a check that Python does (see `checks`): the walk over the schema finds all values that it is for."""


_OWN = ("mlspec", "project", "lock", "machine", "calibration")
"""The schemas that files of the user's are checked against: none refers to another."""


@dataclass(frozen=True)
class Misfit:
    """A value and the schema's keyword that it doesn't fit. `wanted` is what stands under the keyword in `schema`."""

    keyword: str
    wanted: Any
    value: Any
    schema: Mapping[str, Any]
    pointer: Pointer
    is_key: bool
    """True if the key is meant, not the value under it."""


def misfits(schema: Mapping[str, Any], data: Any, within: Pointer = ()) -> Iterator[Misfit]:
    """All misfits of the data that stands at `within`, wrong types before what follows from them.

    A plug-in's schema can refer to `urn:mlspec:schema:mlspec:v1#/$defs/source` and the like.
    """
    own = any(schema is shipped(name) for name in _OWN)
    validator: Validator = _validator_type()(schema, **({} if own else {"registry": _registry()}))
    for error in sorted(validator.iter_errors(data), key=_order):
        yield _misfit(error, within)


def _misfit(error: ValidationError, within: Pointer) -> Misfit:
    is_key = "propertyNames" in error.absolute_schema_path
    pointer = (*within, *error.absolute_path, *((error.instance,) if is_key else ()))
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    return Misfit(str(error.validator), error.validator_value, error.instance, schema, pointer, is_key)


@cache
def shipped(name: str) -> Mapping[str, Any]:
    """A schema of the folder `schema/`."""
    text = (folder("schema") / f"{name}.schema.json").read_text(encoding="utf-8")
    schema: Mapping[str, Any] = json.loads(text)
    return schema


@cache
def _registry() -> Any:
    from referencing import Registry, Resource

    resource: Resource[Any] = Resource.from_contents(shipped("mlspec"))
    return resource @ Registry()


@cache
def _validator_type() -> Any:
    ours = {"pattern": _pattern, "uniqueItems": _unique_items, "$ref": _reference, CHECK: _check}
    return validators.extend(Draft202012Validator, ours)  # type: ignore[no-untyped-call]


def _pattern(validator: Any, pattern: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Python's `$` also matches before a newline at the end: JSON Schema's doesn't."""
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """In linear time: jsonschema compares each item with each."""
    if wanted and isinstance(instance, list) and len({as_json(item) for item in instance}) < len(instance):
        yield ValidationError("items are equal")


def _reference(validator: Any, ref: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """What refers to a definition can have examples of its own: a misfit shows those."""
    for error in Draft202012Validator.VALIDATORS["$ref"](validator, ref, instance, schema):
        of_definition = len(error.relative_schema_path) == 1 and isinstance(error.schema, Mapping)
        if of_definition and "examples" in schema:
            error.schema = {**error.schema, "examples": schema["examples"]}
        yield error


def as_json(value: Any) -> str:
    """A text that is equal for equal values."""
    return json.dumps(value, sort_keys=True)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"(?<!\\)\$", r"\\Z", pattern), re.ASCII)


def _check(validator: Any, name: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """An error for each place where a check is asked for; the check itself decides whether it is one."""
    yield ValidationError(name)


def _order(error: ValidationError) -> int:
    return {"type": 0, CHECK: 2}.get(str(error.validator), 1)
