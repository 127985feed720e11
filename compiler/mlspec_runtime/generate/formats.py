"""Which form an answer must have."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.json_values import JsonObject
from mlspec_runtime.generate.sampling import Grammar, Sampling


class JsonSchema(BaseModel):
    """A JSON Schema that an answer follows. It is always followed: `strict` is taken, and changes nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)
    name: Annotated[str, Field(max_length=64)] | None = None
    description: str | None = None
    schema_: JsonObject = Field(alias="schema")
    strict: bool | None = None


_WITH_SCHEMA_OR_NOT: list[JsonValue] = [
    {
        "properties": {"type": {"const": "json_schema"}, "json_schema": {"type": "object"}},
        "required": ["json_schema"],
    },
    {"properties": {"type": {"enum": ["text", "json_object"]}, "json_schema": {"type": "null"}}},
]
"""What `_with_its_schema` checks, as the documents tell it."""


class ResponseFormat(BaseModel):
    """Text as the model likes it, some JSON object, or JSON of a schema."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"oneOf": _WITH_SCHEMA_OR_NOT})
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _with_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("'json_schema' is missing: give the schema, as {\"schema\": {…}}")
        if self.type != "json_schema" and self.json_schema is not None:
            raise ValueError("'json_schema' goes with type 'json_schema', and with no other")
        return self

    def grammar(self) -> Grammar | None:
        """What must be followed; None for text."""
        if self.json_schema is not None:
            return Grammar("json_schema", json.dumps(self.json_schema.schema_, ensure_ascii=False))
        return Grammar("json_object") if self.type == "json_object" else None


def unfollowed_format(sampling: Sampling) -> ServiceError | None:
    """What to say of an answer that could not follow its format to the end; None: it did, or had none."""
    constraint = sampling.grammar.constraint if sampling.grammar is not None else None
    if constraint is None or constraint.problem is None:
        return None
    message = f"the answer's format is too complex to be followed ({constraint.problem}); ask for a simpler one"
    return ServiceError("format_too_complex", message, 400, field="response_format")
