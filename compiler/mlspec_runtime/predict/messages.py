"""Requests and answers of one service: its inputs and outputs are in the types, and so in the documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from mlspec_runtime.predict.decoding import file_types
from mlspec_runtime.predict.decoding.file import File
from mlspec_runtime.predict.examples import file_examples
from mlspec_runtime.predict.schemas import input_schema, output_schema
from mlspec_runtime.predict.signature import Array, TensorSpec
from mlspec_runtime.predict.values import labels, written

Encoding = Literal["json", "npy"]


class TensorTimings(BaseModel):
    """Seconds since the request came in: until computing began, and until the end."""

    queue_s: float
    total_s: float


class TensorRequest(BaseModel):
    """Named tensors: as nested lists, or in one of the other forms that an input takes."""

    model_config = ConfigDict(extra="forbid", strict=True)
    file_types: ClassVar[Mapping[str, Any]] = {}
    """Media types of bodies that are the one input by themselves, with the schema and the example of each."""
    inputs: Any
    encoding: Annotated[Encoding, Field(description="How the answer's arrays are written.")] = "json"

    def values(self) -> dict[str, Any]:
        """The inputs by their names."""
        return {name: getattr(self.inputs, f"tensor_{at}") for at, name in enumerate(_names(type(self.inputs)))}

    @classmethod
    def of_file(cls, media_type: str, content: bytes) -> TensorRequest:
        """The request that a body of one of `file_types` is."""
        group: type[BaseModel] = cls.model_fields["inputs"].annotation  # type: ignore[assignment]
        return cls.model_construct(inputs=group.model_construct(tensor_0=File(media_type, content)))


class TensorResponse(BaseModel):
    """Named tensors: as nested lists, or as .npy files in base64. `labels` are those of outputs that have some: of each
    number, or of the highest score.
    """

    outputs: dict[str, Any]
    labels: Annotated[dict[str, Any] | None, Field(exclude_if=lambda value: value is None)] = None
    timings: TensorTimings
    request_id: str


def response(
    outputs: Mapping[str, Array],
    specs: Sequence[TensorSpec],
    encoding: str,
    timings: TensorTimings,
    request_id: str,
) -> TensorResponse:
    """The answer with these outputs."""
    return TensorResponse(
        outputs=written(outputs, encoding), labels=labels(outputs, specs), timings=timings, request_id=request_id
    )


def _names(group: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in group.model_fields.items()]


def request_type(inputs: Sequence[TensorSpec]) -> type[TensorRequest]:
    """The request of one service: its inputs are in the type, and so in the documents."""
    group = _group("Inputs", {spec.name: input_schema(spec) for spec in inputs})
    kind = create_model("TensorRequest", __base__=TensorRequest, inputs=(group, ...))
    kind.file_types = file_examples(inputs, file_types(inputs))
    return kind


def response_type(outputs: Sequence[TensorSpec]) -> type[TensorResponse]:
    """The answer of one service, for its documents."""
    group = _group("Outputs", {spec.name: output_schema(spec) for spec in outputs})
    return create_model("TensorResponse", __base__=TensorResponse, outputs=(group, ...))


def _group(name: str, schemas: Mapping[str, Mapping[str, Any]]) -> type[BaseModel]:
    """A type with a field for each tensor. Names come from a spec and may be anything, so they are aliases."""
    fields: dict[str, Any] = {
        f"tensor_{at}": (Annotated[Any, WithJsonSchema(dict(schema))], Field(alias=name))
        for at, (name, schema) in enumerate(schemas.items())
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
