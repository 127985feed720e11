"""/v1/embeddings, as OpenAI's API has it: texts to vectors, for services that make one vector of one text."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.responses import Response

from mlspec_runtime.documents import ErrorBody, body_examples, error_documents
from mlspec_runtime.endpoints import Serving
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.exchange import Exchange
from mlspec_runtime.plan import PlanError, RuntimePlan
from mlspec_runtime.predict.settings import Requests, read
from mlspec_runtime.predict.signature import TensorSpec

_NO_MODEL: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "There is no such model."}}
_VECTOR_DIMENSIONS = 2


def _as_texts(given: Any) -> Any:
    if isinstance(given, list) and any(isinstance(part, int | list) for part in given):
        raise ValueError("token ids are not taken; send text")
    return [given] if isinstance(given, str) else given


Text = Annotated[str, Field(min_length=1)]


class EmbeddingsRequest(BaseModel):
    """OpenAI's request. Keys that aren't here are taken and ignored; `null` is what is left out."""

    model_config = ConfigDict(extra="ignore", strict=True)
    input: Annotated[
        list[Text], Field(min_length=1), BeforeValidator(_as_texts, json_schema_input_type=Text | list[Text])
    ]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


class Embedding(BaseModel):
    """The vector of one text: numbers, or float32 in base64, the lowest byte first."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """0 where the service doesn't know tokens."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class ModelAnswer(BaseModel):
    """The name that `model` may have: the service's."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """The one model."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]


@dataclass(frozen=True)
class TextVectors:
    """The input that takes the texts, and the output that has their vectors; `size` None: that shows in an answer."""

    texts: str
    vectors: str
    size: int | None


def text_vectors(requests: Requests) -> TextVectors | None:
    """Which input and output these are; None where a service doesn't make one vector of one text."""
    vectors = [spec for spec in requests.outputs if _is_vector(spec)]
    if len(requests.inputs) != 1 or not _is_text(requests.inputs[0]) or len(vectors) != 1:
        return None
    size = vectors[0].shape[1]
    return TextVectors(requests.inputs[0].name, vectors[0].name, size if isinstance(size, int) else None)


def _is_text(spec: TensorSpec) -> bool:
    return spec.dtype == "string" and len(spec.shape) == 1 and isinstance(spec.shape[0], str)


def _is_vector(spec: TensorSpec) -> bool:
    rows = len(spec.shape) == _VECTOR_DIMENSIONS and isinstance(spec.shape[0], str)
    return rows and spec.dtype in ("float16", "float32", "float64")


def _found(plan: RuntimePlan) -> TextVectors:
    try:
        found = text_vectors(read(plan.runner.settings).requests)
    except ValidationError:
        found = None
    if found is None:
        message = f"the runner '{plan.runner.name}' doesn't make one vector of one text here"
        raise PlanError(f"{message}; leave 'embeddings' out of service.endpoints")
    return found


def add(app: FastAPI, serving: Serving) -> None:
    """The endpoint `embeddings`, and the list of models that goes with it. Raises PlanError where the service makes no
    vectors of texts.
    """
    service, limits = serving.plan.service, serving.plan.limits
    asked = _found(serving.plan)
    kind: Any = serving.runner.request_type

    async def embeddings(request: Request, body: EmbeddingsRequest) -> Response:
        """OpenAI's embeddings: one vector for each text."""
        _check_model(body.model, service.name)
        _check(body, asked, limits.max_batch)
        exchange = Exchange(serving.model.admit(), request, serving.metrics, limits.timeout_s)
        try:
            with _of_input(asked):
                await exchange.begin(kind.model_validate({"inputs": {asked.texts: body.input}}), stream=False)
                output = await exchange.output()
        finally:
            await exchange.close()
        vectors = output.data.model_dump()["outputs"][asked.vectors]
        tokens = output.measures.prompt_tokens if output.measures else 0
        return _answer(vectors, body, service.name, tokens)

    short = {"model": service.name, "input": ["Where is my order?", "How do I pay?"]}
    app.post(
        "/v1/embeddings",
        summary="OpenAI: embeddings",
        response_model=Embeddings,
        responses={**error_documents(), **_NO_MODEL},
        openapi_extra=body_examples(several=short, base64={**short, "encoding_format": "base64"}),
    )(embeddings)
    _add_models(app, serving)


def _check_model(asked: str | None, name: str) -> None:
    if asked not in (None, name):
        raise ServiceError("model_not_found", f"there is no such model here, but '{name}'", 404, field="model")


def _check(body: EmbeddingsRequest, asked: TextVectors, most: int) -> None:
    if len(body.input) > most:
        message = f"input: {len(body.input)} texts; {most} are taken at once (service.limits.max_batch)"
        raise ServiceError("invalid_request", message, 422, field="input")
    _check_size(body, asked.size)


def _check_size(body: EmbeddingsRequest, size: int | None) -> None:
    if body.dimensions is not None and size is not None and body.dimensions != size:
        message = f"dimensions: the model's vectors have {size}, and no other number; leave it out"
        raise ServiceError("invalid_request", message, 422, field="dimensions")


@contextmanager
def _of_input(asked: TextVectors) -> Iterator[None]:
    """Faults of the service's own input are those of `input` here."""
    own = f"inputs.{asked.texts}"
    try:
        yield
    except ServiceError as problem:
        if problem.field is None or not problem.field.startswith(own):
            raise
        error = problem.again()
        error.message, error.field = problem.message.replace(own, "input"), problem.field.replace(own, "input", 1)
        raise error from None


def _answer(vectors: Sequence[Sequence[float]], body: EmbeddingsRequest, name: str, tokens: int) -> Response:
    _check_size(body, len(vectors[0]))
    written = _base64 if body.encoding_format == "base64" else list
    answer = Embeddings(
        data=[Embedding(index=index, embedding=written(vector)) for index, vector in enumerate(vectors)],
        model=body.model or name,
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _add_models(app: FastAPI, serving: Serving) -> None:
    service, created = serving.plan.service, int(time.time())

    def told() -> ModelAnswer:
        return ModelAnswer(id=service.name, created=created, owned_by=service.project)

    @app.get("/v1/models", summary="OpenAI: the models")
    async def models() -> ModelList:
        """The name that `model` may have. `created` is when the service started."""
        return ModelList(data=[told()])

    @app.get("/v1/models/{model}", summary="OpenAI: one model", responses=_NO_MODEL)
    async def model(model: str) -> ModelAnswer:
        """The one."""
        _check_model(model, service.name)
        return told()
