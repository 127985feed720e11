"""From OpenAI's requests to the service's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateRequest
from mlspec_runtime.generate.openai.requests import (
    ChatMessage,
    ChatRequest,
    ChatTool,
    ChosenTool,
    CompletionRequest,
    SamplingOptions,
)
from mlspec_runtime.generate.openai.unsupported import check_keys, unsupported
from mlspec_runtime.generate.sampling import MAX_SEED

Place = tuple[int | str, ...]
_SAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "stop",
)


def chat_requests(kind: type[BaseModel], adapter: str, request: ChatRequest, most: int) -> list[GenerateRequest]:
    """One request of `kind` for each choice, `most` at most. Raises ServiceError, RequestValidationError."""
    check_keys(request)
    values = {
        **_sampling(request),
        "adapter": adapter,
        "messages": [_message(at, message) for at, message in enumerate(request.messages)],
        "max_tokens": _max_tokens(request),
        "logprobs": _alternatives(request),
        "tools": [_tool(tool) for tool in request.tools] if request.tools else None,
        "parallel_tool_calls": request.parallel_tool_calls,
        "tool_choice": _tool_choice(request.tool_choice),
        "response_format": request.response_format,
    }
    limit = "max_tokens" if request.max_completion_tokens is None else "max_completion_tokens"
    made = _made(kind, values, partial(_place_in_chat, limit))
    return _choices(made, request, most)


def completion_requests(
    kind: type[BaseModel], adapter: str, request: CompletionRequest, most: int
) -> list[GenerateRequest]:
    """One request of `kind` for each choice of each prompt, `most` at most in all. Raises ServiceError,
    RequestValidationError.
    """
    check_keys(request)
    if request.best_of not in (None, 1, request.n or 1):
        raise unsupported("best_of", "ask for 'n' choices and choose")
    if request.echo and request.logprobs is not None:
        raise unsupported("echo", "there are no log probabilities of prompts")
    values = {**_sampling(request), "adapter": adapter, "raw": True, "max_tokens": request.max_tokens}
    values["logprobs"] = request.logprobs
    if len(request.prompt) > most:
        raise ServiceError("invalid_request", f"prompt: {most} prompts at most", 422, field="prompt")
    requests: list[GenerateRequest] = []
    for at, prompt in enumerate(request.prompt):
        place: Place = ("prompt", at) if len(request.prompt) > 1 else ("prompt",)
        made = _made(kind, {**values, "prompt": prompt}, partial(_place_of, place))
        requests.extend(_choices(made, request, most // len(request.prompt)))
    return requests


def _sampling(request: SamplingOptions) -> dict[str, Any]:
    values = {name: getattr(request, name) for name in _SAME}
    # OpenAI's seeds may be negative.
    return {**values, "seed": None if request.seed is None else request.seed & MAX_SEED}


def _max_tokens(request: ChatRequest) -> int | None:
    older, newer = request.max_tokens, request.max_completion_tokens
    if older is not None and newer is not None and older != newer:
        message = "'max_tokens' and 'max_completion_tokens' are the same and differ; send one"
        raise ServiceError("invalid_request", message, 400, field="max_tokens")
    return older if newer is None else newer


def _alternatives(request: ChatRequest) -> int | None:
    if request.logprobs:
        return request.top_logprobs or 0
    if request.top_logprobs is not None:
        raise ServiceError("invalid_request", "'top_logprobs' goes with 'logprobs': true", 400, field="top_logprobs")
    return None


def _message(at: int, message: ChatMessage) -> dict[str, Any]:
    extra = message.model_extra or {}
    for key in ("audio", "function_call"):
        if extra.get(key) is not None:
            raise unsupported(f"messages.{at}.{key}", "messages are text and 'tool_calls'")
    calls = [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments or "{}"}
        for call in message.tool_calls or ()
    ]
    given = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _content(at, message),
        "tool_calls": calls or None,
        "tool_call_id": message.tool_call_id,
        "name": message.name,
    }
    return {key: value for key, value in given.items() if value is not None}


def _content(at: int, message: ChatMessage) -> str | None:
    if message.content is None:
        return None
    texts = []
    for index, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            raise unsupported(f"messages.{at}.content.{index}", "messages are of parts of the type 'text'")
        texts.append(part.text)
    return "".join(texts)


def _tool(tool: ChatTool) -> dict[str, Any]:
    return {name: value for name, value in tool.function if value is not None}


def _tool_choice(choice: ChosenTool | None) -> Any:
    if choice is None or choice.type != "function":
        return None if choice is None else choice.type
    return {"name": choice.function.name if choice.function else ""}


def _made(kind: type[BaseModel], values: dict[str, Any], place: Callable[[Place], Place]) -> GenerateRequest:
    """Of the values that were given; what is left out is as the service has it."""
    try:
        made = kind.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise RequestValidationError([{**one, "loc": ("body", *place(one["loc"]))} for one in found]) from None
    assert isinstance(made, GenerateRequest)  # noqa: S101 - `model_names` has checked it
    return made


def _place_of(prompt: Place, found: Place) -> Place:
    return prompt if found[:1] == ("prompt",) else found


def _place_in_chat(max_tokens: str, found: Place) -> Place:
    """Where a client wrote what the service's own request has at `found`."""
    match found:
        case ("max_tokens", *rest):
            return (max_tokens, *rest)
        case ("logprobs", *rest):
            return ("top_logprobs", *rest)
        case ("tools", int(at), *rest):
            return ("tools", at, "function", *rest)
        case ("messages", int(at), "tool_calls", int(call), ("name" | "arguments") as key, *rest):
            return ("messages", at, "tool_calls", call, "function", key, *rest)
        case ("tool_choice", *_):
            return ("tool_choice",)
    return found


def _choices(made: GenerateRequest, request: SamplingOptions, most: int) -> list[GenerateRequest]:
    count = request.n or 1
    if count > most:
        raise ServiceError("invalid_request", f"n: {most} choices at most", 422, field="n")
    if count == 1 or made.seed is None:
        return [made] * count
    return [made.model_copy(update={"seed": (made.seed + index) & MAX_SEED}) for index in range(count)]
