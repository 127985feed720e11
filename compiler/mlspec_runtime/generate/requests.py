"""Requests of the task `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, create_model, field_validator, model_validator

from mlspec_runtime.generate.conversation import Message, NamedTool, Tool, ToolChoice
from mlspec_runtime.generate.faults import one_fault
from mlspec_runtime.generate.formats import ResponseFormat
from mlspec_runtime.generate.sampling import MAX_SEED, Sampling

StopText = Annotated[str, Field(min_length=1, max_length=64)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
MOST_ALTERNATIVES = 20
MOST_TOOLS = 128
MOST_BIASED = 1024
_BIASES = one_fault(f"give up to {MOST_BIASED} ids of tokens as text, each with a number from -100 to 100")


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
        1.0, ge=0.01, le=10, description="Above 1 makes the last 20 tokens less likely to come again; 1 is off."
    )
    presence_penalty: Penalty = Field(
        0.0, description="Above 0 makes tokens that the answer has less likely to come again; 0 is off."
    )
    frequency_penalty: Penalty = Field(
        0.0, description="The same, the more so the more often the answer has them; 0 is off."
    )
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MOST_BIASED), _BIASES] | None = Field(
        None, description="What to add to the logits of tokens, by their ids as text."
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=MOST_ALTERNATIVES,
        description="Give each token's log probability, with so many of the likeliest tokens at its place.",
    )
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="With the same seed the same request gives the same answer."
    )
    stop: Annotated[list[StopText], Field(max_length=8)] = Field(
        default=[],
        description="The answer ends before the first of these texts. They are sought in its text alone, not in "
        "reasoning or calls of tools.",
    )
    tools: Annotated[list[Tool], Field(max_length=MOST_TOOLS)] | None = Field(
        None, description="What the model may call, if its chat template knows tools."
    )
    tool_choice: ToolChoice = Field(
        "auto", description="Whether a tool is called: as the model likes, never, one at least, or this one."
    )
    parallel_tool_calls: bool = Field(
        True, description="Whether one answer may call several tools, or one several times."
    )
    response_format: ResponseFormat | None = Field(
        None, description="JSON, or JSON of a schema, which the answer then always follows unless it is cut off."
    )

    @model_validator(mode="after")
    def _one_source(self) -> GenerateRequest:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        if self.raw and self.prompt is None:
            raise ValueError("'raw' goes with 'prompt'")
        return self

    @field_validator("tools")
    @classmethod
    def _by_name(cls, tools: list[Tool] | None, info: ValidationInfo) -> list[Tool] | None:
        names = [tool.name for tool in tools or []]
        if len(set(names)) < len(names):
            raise ValueError("two tools have the same name")
        if names and info.data.get("raw"):
            raise ValueError("they need the chat template, so they don't go with 'raw'")
        return tools

    @field_validator("tool_choice")
    @classmethod
    def _of_the_tools(cls, choice: ToolChoice, info: ValidationInfo) -> ToolChoice:
        # Where the tools are wrong themselves there is nothing more to say.
        tools = info.data.get("tools") or []
        if "tools" in info.data and choice == "required" and not tools:
            raise ValueError("it needs 'tools'")
        if "tools" in info.data and isinstance(choice, NamedTool) and choice.name not in [one.name for one in tools]:
            raise ValueError("it names no tool of 'tools'")
        return choice

    def offered_tools(self) -> list[Tool]:
        """What may be called."""
        return [] if self.tool_choice == "none" else self.tools or []

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
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple(sorted((int(token), bias) for token, bias in (self.logit_bias or {}).items())),
            logprobs=self.logprobs,
            grammar=self.response_format.grammar() if self.response_format else None,
        )


_DEFAULTED = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
)


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
    for name in _DEFAULTED:
        value = getattr(defaults, name)
        fields[name] = _with_default(name, list(value) if name == "stop" else value)
    return create_model("GenerateRequest", __base__=GenerateRequest, **fields)


def _with_default(name: str, default: Any) -> Any:
    field = GenerateRequest.model_fields[name]
    return (field.annotation, field.merge_field_infos(field, default=default))
