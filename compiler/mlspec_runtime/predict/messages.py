"""Requests and answers of one service: its inputs and outputs are in the types, and so in the documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from mlspec_runtime.predict.signature import TensorSpec

_JSON_TYPES = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "O": "string"}


class TensorTimings(BaseModel):
    """Seconds since the request came in: until computing began, and until the end."""

    queue_s: float
    total_s: float


class TensorRequest(BaseModel):
    """Named tensors, as nested lists."""

    model_config = ConfigDict(extra="forbid", strict=True)
    inputs: Any

    def values(self) -> dict[str, Any]:
        """The inputs by their names."""
        return {name: getattr(self.inputs, f"tensor_{at}") for at, name in enumerate(_names(type(self.inputs)))}


class TensorResponse(BaseModel):
    """Named tensors, as nested lists."""

    outputs: dict[str, Any]
    timings: TensorTimings
    request_id: str


def _names(group: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in group.model_fields.items()]


def request_type(inputs: Sequence[TensorSpec]) -> type[TensorRequest]:
    """The request of one service: its inputs are in the type, and so in the documents."""
    group = _group("Inputs", inputs)
    return create_model("TensorRequest", __base__=TensorRequest, inputs=(group, ...))


def response_type(outputs: Sequence[TensorSpec]) -> type[TensorResponse]:
    """The answer of one service, for its documents."""
    group = _group("Outputs", outputs)
    return create_model("TensorResponse", __base__=TensorResponse, outputs=(group, ...))


def _group(name: str, specs: Sequence[TensorSpec]) -> type[BaseModel]:
    """A type with a field for each tensor. Names come from a spec and may be anything, so they are aliases."""
    fields: dict[str, Any] = {
        f"tensor_{at}": (Annotated[Any, WithJsonSchema(_schema(spec))], Field(alias=spec.name))
        for at, spec in enumerate(specs)
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _schema(spec: TensorSpec) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _JSON_TYPES[spec.numpy_dtype.kind]}
    for dimension in reversed(spec.shape):
        schema = {"type": "array", "items": schema}
        if isinstance(dimension, int):
            schema |= {"minItems": dimension, "maxItems": dimension}
    return {**schema, "description": str(spec)}
