"""The answers of OpenAI's API, made of the service's own. What isn't set isn't sent."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from mlspec_runtime.generate.messages import FinishReason, GenerateResponse, TokenLogprobs, ToolCall

LEAST_LOGPROB = -9999.0
"""OpenAI's word for "next to impossible"; JSON has no infinity."""


class ChatLogprobs(BaseModel):
    """A token of the answer in `content`: {token, logprob, bytes, top_logprobs: the same for the likeliest}."""

    content: list[dict[str, Any]]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """Four lists, with one entry for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class FunctionCall(BaseModel):
    name: str
    arguments: str


class ToolCallAnswer(BaseModel):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class AssistantMessage(BaseModel):
    """`reasoning_content` is not OpenAI's: what a model thought before it answered."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallAnswer] | None = None


class ChatChoice(BaseModel):
    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class PromptTokensDetails(BaseModel):
    cached_tokens: int


class UsageAnswer(BaseModel):
    """Each prompt counts once, however many choices were made of it. `cached_tokens` needed no computing."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Head(BaseModel):
    """What answers and their pieces begin with."""

    id: str
    object: str
    created: int = Field(description="Seconds since 1970.")
    model: str
    system_fingerprint: str = Field(description="Another one where the model or its settings are other ones.")


class ChatCompletion(Head):
    """The whole answer."""

    choices: list[ChatChoice]
    usage: UsageAnswer


class Completion(Head):
    """The whole answer."""

    choices: list[CompletionChoice]
    usage: UsageAnswer


def usage(answers: Sequence[GenerateResponse], choices_of_prompt: int) -> UsageAnswer:
    """Of all choices, those of a prompt one after the other."""
    firsts = [answer.usage for answer in answers[::choices_of_prompt]]
    prompt = sum(first.prompt_tokens for first in firsts)
    made = sum(answer.usage.completion_tokens for answer in answers)
    details = PromptTokensDetails(cached_tokens=sum(first.cached_tokens for first in firsts))
    return UsageAnswer(
        prompt_tokens=prompt, completion_tokens=made, total_tokens=prompt + made, prompt_tokens_details=details
    )


def chat_choice(index: int, answer: GenerateResponse) -> ChatChoice:
    """A choice; without text, but with calls of tools, its content is null."""
    calls = answer.tool_calls
    optional: dict[str, Any] = {}
    if answer.reasoning is not None:
        optional["reasoning_content"] = answer.reasoning
    if calls:
        optional["tool_calls"] = [tool_call(call) for call in calls]
    content = answer.text or (None if calls else "")
    message = AssistantMessage(role="assistant", content=content, refusal=None, **optional)
    logprobs = None if answer.logprobs is None else chat_logprobs(answer.logprobs)
    return ChatChoice(index=index, message=message, logprobs=logprobs, finish_reason=answer.finish_reason)


def tool_call(call: ToolCall) -> ToolCallAnswer:
    function = FunctionCall(name=call.name, arguments=call.arguments)
    return ToolCallAnswer(id=call.id, type="function", function=function)


def completion_choice(index: int, answer: GenerateResponse, echoed: str) -> CompletionChoice:
    """A choice, which begins with `echoed`."""
    logprobs = None if answer.logprobs is None else completion_logprobs(answer.logprobs, TextOffsets())
    text, reason = echoed + answer.text, answer.finish_reason
    return CompletionChoice(index=index, text=text, logprobs=logprobs, finish_reason=reason)


def chat_logprobs(tokens: Iterable[TokenLogprobs]) -> ChatLogprobs:
    """Of these tokens."""
    content = [{**_chat_logprob(token), "top_logprobs": [_chat_logprob(one) for one in token.top]} for token in tokens]
    return ChatLogprobs(content=content, refusal=None)


def _chat_logprob(token: Any) -> dict[str, Any]:
    return {"token": token.text, "logprob": max(token.logprob, LEAST_LOGPROB), "bytes": token.bytes}


class TextOffsets:
    """Where the tokens of an answer begin in its text, one after the other. Several may be one character's bytes: they
    begin where it does.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def next(self, token: TokenLogprobs) -> int:
        """In characters."""
        begin = self._offset
        self._offset += len(token.text if token.bytes is None else self._decoder.decode(bytes(token.bytes)))
        return begin


def completion_logprobs(tokens: Sequence[TokenLogprobs], offsets: TextOffsets) -> CompletionLogprobs:
    """Of these tokens, which come next in their answer."""
    return CompletionLogprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[max(token.logprob, LEAST_LOGPROB) for token in tokens],
        top_logprobs=[{one.text: max(one.logprob, LEAST_LOGPROB) for one in token.top} for token in tokens],
        text_offset=[offsets.next(token) for token in tokens],
    )
