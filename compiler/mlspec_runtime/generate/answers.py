"""Answers of the task `generate`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, Field

from mlspec_runtime.generate.conversation import ToolCall

FinishReason = Literal["stop", "length", "tool_calls"]


class TokenAlternative(BaseModel):
    """A token with the natural logarithm of its probability, after biases, penalties and a response format, before
    the temperature. `bytes` are those of its text, None for a token that has none; `text` may show a part of a
    character as U+FFFD.
    """

    token: int
    text: str
    bytes: list[int] | None
    logprob: float


class TokenLogprobs(TokenAlternative):
    """A token of the answer, with the likeliest ones at its place, the likeliest first."""

    top: list[TokenAlternative]


class Usage(BaseModel):
    """`cached_tokens` of the prompt were known from earlier requests and needed no computing."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class Timings(BaseModel):
    """Seconds since the request came in: until computing began, until the first token, until the end."""

    queue_s: float
    time_to_first_token_s: float | None
    total_s: float


class GenerateResponse(BaseModel):
    """The whole answer. `tokens` are the ids behind `text`, `reasoning` and `tool_calls`; those of a stop text are
    among them, an end token is not.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason = Field(
        description="`stop`: the model ended, or a stop text came. `length`: max_tokens. `tool_calls`: the model ended "
        "with calls of tools."
    )
    adapter: str = Field(description='The adapter that answered; "base" is none.')
    reasoning: str | None = Field(
        None, description="What the model thought before it answered, if it is one that does."
    )
    tool_calls: list[ToolCall] = []
    logprobs: list[TokenLogprobs] | None = Field(default=None, description="One for each of `tokens`, if asked for.")
    cached: bool = Field(default=False, description="The answer to an equal request, from the cache of answers.")
    usage: Usage
    timings: Timings
    request_id: str

    def for_request(self, request_id: str, total_s: float) -> GenerateResponse:
        """The same answer for an equal request, which had it after `total_s` seconds without computing."""
        whole_s = round(total_s, 6)
        timings = Timings(queue_s=0.0, time_to_first_token_s=whole_s, total_s=whole_s)
        return self.model_copy(update={"request_id": request_id, "timings": timings, "cached": True})

    def events(self) -> Iterator[tuple[str, TokenEvent]]:
        """What a stream of it tells before its end, in one piece."""
        if self.text or self.reasoning or self.tool_calls:
            piece = TokenEvent(
                text=self.text,
                tokens=self.tokens,
                reasoning=self.reasoning or "",
                tool_calls=self.tool_calls,
                logprobs=self.logprobs,
            )
            yield "token", piece


class TokenEvent(BaseModel):
    """A piece of the answer as it is generated. Text that may become part of a stop text is held back, and so is a call
    of a tool until it is whole.
    """

    text: str
    tokens: list[int]
    reasoning: str = ""
    tool_calls: list[ToolCall] = []
    logprobs: list[TokenLogprobs] | None = None
