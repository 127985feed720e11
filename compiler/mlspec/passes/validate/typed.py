"""Plain data that fits the schema to typed values; what a plug-in's type refuses becomes a diagnostic."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mlspec.model.document import Pointer
from mlspec.passes.validate.findings import Findings, Part
from mlspec.passes.validate.phrases import path_of

Model = TypeVar("Model", bound=BaseModel)
_CODES = {"missing": "missing-key", "extra_forbidden": "unknown-key", "literal_error": "unknown-value"}


def typed(kind: type[Model], data: Any, pointer: Pointer, findings: Findings) -> Model | None:
    """`data` as a `kind`; None after each fault was reported. `pointer` is where the data stands in the document."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_context=False, include_input=False):
            place = (*pointer, *fault["loc"])
            code = _CODES.get(fault["type"], "bad-value")
            at: Part = "key" if code in ("missing-key", "unknown-key") else "value"
            findings.error(code, f"{path_of(place)}: {fault['msg']}", place, at=at)
    return None


def without_free_keys(data: Any) -> Any:
    """The data without the keys that are the user's own (`x-…`), for types that refuse what they don't know."""
    if isinstance(data, dict):
        return {k: without_free_keys(v) for k, v in data.items() if not k.startswith("x-")}
    return [without_free_keys(item) for item in data] if isinstance(data, list) else data
