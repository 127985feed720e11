"""/v1/chat/completions, /v1/completions and /v1/models."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response

from mlspec_runtime.documents import ErrorBody, body_examples, error_documents
from mlspec_runtime.endpoints import Serving
from mlspec_runtime.generate.openai.answers import (
    ChatCompletion,
    Completion,
    chat_choice,
    completion_choice,
    usage,
)
from mlspec_runtime.generate.openai.asking import Asking
from mlspec_runtime.generate.openai.chunks import ChatStream, CompletionStream
from mlspec_runtime.generate.openai.names import model_names
from mlspec_runtime.generate.openai.requests import ChatRequest, CompletionRequest
from mlspec_runtime.generate.openai.translate import chat_requests, completion_requests

PATHS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/models": "models",
    "/v1/models/{model}": "model",
}
_STREAM = "With `stream` server-sent events: pieces of the answer, then `[DONE]`; or, instead of it, an error."
_NO_MODEL: dict[int | str, dict[str, Any]] = {404: {"model": ErrorBody, "description": "There is no such model."}}


class ModelAnswer(BaseModel):
    """A name that `model` may have."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All of them, the service's own first."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]


def add_chat(app: FastAPI, serving: Serving) -> None:
    """The endpoint `chat`."""
    asking = Asking(serving)

    async def chat(request: Request, body: ChatRequest) -> Response:
        """OpenAI's chat completions."""
        choices = chat_requests(asking.kind, asking.names.adapter(body.model), body, asking.most_choices)
        if body.stream:
            head = asking.head(request, "chatcmpl", "chat.completion.chunk", body.model)
            stream = partial(ChatStream, head=head, **_usage_of(body, len(choices)))
            return await asking.stream(request, choices, stream)
        answers = await asking.answers(request, choices)
        head = asking.head(request, "chatcmpl", "chat.completion", body.model)
        made = [chat_choice(index, answer) for index, answer in enumerate(answers)]
        return _json(ChatCompletion(**dict(head), choices=made, usage=usage(answers, len(answers))))

    asked = {"model": asking.names.service, "messages": [{"role": "user", "content": "Where is my order?"}]}
    app.post("/v1/chat/completions", summary="OpenAI: chat", **_documents(ChatCompletion, serving, asked))(chat)


def add_completions(app: FastAPI, serving: Serving) -> None:
    """The endpoint `completions`."""
    asking = Asking(serving)

    async def completions(request: Request, body: CompletionRequest) -> Response:
        """OpenAI's older completions: text is continued as it stands."""
        choices = completion_requests(asking.kind, asking.names.adapter(body.model), body, asking.most_choices)
        echoed = {row: choice.prompt or "" for row, choice in enumerate(choices)} if body.echo else {}
        head = asking.head(request, "cmpl", "text_completion", body.model)
        if body.stream:
            stream = partial(CompletionStream, head=head, **_usage_of(body, body.n or 1), echoed=echoed)
            return await asking.stream(request, choices, stream)
        answers = await asking.answers(request, choices)
        made = [completion_choice(row, answer, echoed.get(row, "")) for row, answer in enumerate(answers)]
        return _json(Completion(**dict(head), choices=made, usage=usage(answers, body.n or 1)))

    asked = {"model": asking.names.service, "prompt": "Once upon a time"}
    app.post("/v1/completions", summary="OpenAI: completions", **_documents(Completion, serving, asked))(completions)


def add_models(app: FastAPI, serving: Serving) -> None:
    """The list that goes with both."""
    names, created = model_names(serving.plan, serving.runner), int(time.time())

    def told(name: str) -> ModelAnswer:
        return ModelAnswer(id=name, created=created, owned_by=serving.plan.service.project)

    @app.get("/v1/models", summary="OpenAI: the models")
    async def models() -> ModelList:
        """The names that `model` may have. `created` is when the service started."""
        return ModelList(data=[told(name) for name in names.adapters])

    @app.get("/v1/models/{model}", summary="OpenAI: one model", responses=_NO_MODEL)
    async def model(model: str) -> ModelAnswer:
        """One of them."""
        names.adapter(model)
        return told(model)


def _usage_of(body: ChatRequest | CompletionRequest, choices_of_prompt: int) -> dict[str, Any]:
    asked = body.stream_options is not None and bool(body.stream_options.include_usage)
    return {"include_usage": asked, "choices_of_prompt": choices_of_prompt}


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(exclude_unset=True), media_type="application/json")


def _documents(answer: type[BaseModel], serving: Serving, asked: dict[str, Any]) -> dict[str, Any]:
    short = {**asked, "max_tokens": min(16, serving.plan.limits.max_tokens)}
    # Without a schema, as in `stream_document`.
    stream: dict[str, Any] = {"text/event-stream": {}}
    described = {200: {"model": answer, "description": f"The whole answer. {_STREAM}", "content": stream}}
    return {
        "responses": {**error_documents(), **_NO_MODEL, **described},
        "response_class": Response,
        "openapi_extra": body_examples(whole=short, stream={**short, "stream": True}),
    }
