"""Requests and answers of the task `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

MAX_SEED = 2**63 - 1
StopText = Annotated[str, Field(min_length=1, max_length=64)]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 takes the likeliest; `top_p` 1, `top_k` 0, `min_p` 0 and
    `repetition_penalty` 1 are off; without `seed` each request draws its own."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    @property
    def work(self) -> tuple[bool, ...]:
        """What is computed to choose a token, beyond finding the likeliest: each takes time of its own."""
        drawn = self.temperature > 0
        cut = (drawn and self.top_p < 1, drawn and self.top_k > 0, drawn and self.min_p > 0)
        return (drawn, *cut, self.repetition_penalty != 1)


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "user", "assistant"]
    # The bound makes pydantic look into the text: half a surrogate pair in it is refused.
    content: Annotated[str, Field(min_length=0)]


class GenerateRequest(BaseModel):
    """What to generate from: exactly one of `prompt` and `messages`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Text to answer: one user message, put through the model's chat template if it has one.",
    )
    messages: Annotated[list[Message], Field(min_length=1)] | None = Field(
        None, description="A conversation to continue, put through the model's chat template."
    )
    raw: bool = Field(False, description="Continue `prompt` as it stands, without the chat template.")
    adapter: str | None = None
    max_tokens: int = 128
    temperature: float = Field(0.0, ge=0, le=10, description="0 takes the likeliest token each time.")
    top_p: float = Field(1.0, gt=0, le=1, description="Choose among the likeliest tokens of this total probability.")
    top_k: int = Field(0, ge=0, description="Choose among this many likeliest tokens; 0 is off.")
    min_p: float = Field(
        0.0, ge=0, lt=1, description="Leave out tokens below this share of the likeliest one; 0 is off."
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=10, description="Above 1 makes the last 20 tokens less likely to come again; 1 is off."
    )
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="With the same seed the same request gives the same answer."
    )
    stop: Annotated[list[StopText], Field(max_length=8)] = Field(
        default=[], description="The answer ends before the first of these texts."
    )

    @model_validator(mode="after")
    def _one_source(self) -> GenerateRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        if self.raw and self.prompt is None:
            raise ValueError("'raw' goes with 'prompt'")
        return self

    def sampling(self) -> Sampling:
        """The sampling options alone."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            stop=tuple(self.stop),
            seed=self.seed,
        )


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class Timings(BaseModel):
    """Seconds since the request came in: until computing began, until the first token, until the end."""

    queue_s: float
    time_to_first_token_s: float | None
    total_s: float


class GenerateResponse(BaseModel):
    """The whole answer. `tokens` are the ids behind `text`; those of a stop text are among them, an end token
    is not.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishReason = Field(
        description="`stop`: the model ended, or a stop text came. `length`: max_tokens."
    )
    adapter: str = Field(description='The adapter that answered; "base" is none.')
    usage: Usage
    timings: Timings
    request_id: str


class TokenEvent(BaseModel):
    """A piece of the answer as it is generated. Text that may become part of a stop text is held back."""

    text: str
    tokens: list[int]


def request_type(
    adapters: Sequence[str], default_adapter: str, max_tokens_limit: int, defaults: Sampling
) -> type[GenerateRequest]:
    """The request of one service: its adapters, its limit and its defaults are in the types, and so in the
    documents.
    """
    names = ("base", *adapters)
    fields: dict[str, Any] = {
        "adapter": (
            Literal[names],
            Field(default_adapter, description='An adapter\'s name; "base" is none.'),
        ),
        "max_tokens": (
            int,
            Field(
                min(defaults.max_tokens, max_tokens_limit),
                ge=1,
                le=max_tokens_limit,
                description="Tokens at most.",
            ),
        ),
    }
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop"):
        value = getattr(defaults, name)
        fields[name] = _with_default(name, list(value) if name == "stop" else value)
    return create_model("GenerateRequest", __base__=GenerateRequest, **fields)


def _with_default(name: str, default: Any) -> Any:
    field = GenerateRequest.model_fields[name]
    return (field.annotation, field.merge_field_infos(field, default=default))
