"""The requests of OpenAI's API, as far as they mean something here.

`null` is what is left out. Keys that aren't here are taken and ignored, but for those that `unsupported` knows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from mlspec_runtime.generate.faults import one_fault
from mlspec_runtime.generate.messages import GenerateRequest, ResponseFormat
from mlspec_runtime.generate.requests import MOST_ALTERNATIVES, StopText

_KNOWN = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)
MOST_STOPS = 8
_OPEN = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Part(BaseModel):
    """A piece of a message. Text is all that is read."""

    model_config = _KNOWN
    type: str
    text: str | None = None


class CalledFunction(BaseModel):
    """`arguments` is the text of a JSON object."""

    model_config = _KNOWN
    name: str
    arguments: str


class ChatToolCall(BaseModel):
    """A call that the assistant made."""

    model_config = _KNOWN
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_prompts(prompt: Any) -> Any:
    if isinstance(prompt, list) and any(isinstance(part, int | list) for part in prompt):
        raise ValueError("token ids are not taken; send text")
    return _as_list(prompt)


def _as_choice(choice: Any) -> Any:
    return {"type": choice} if isinstance(choice, str) else choice


# One type each after these validators, where a union would put its members' names into the paths of faults.
Parts = Annotated[list[Part], BeforeValidator(_as_parts, json_schema_input_type=str | list[Part])]
Texts = Annotated[
    list[str],
    BeforeValidator(
        _as_list, json_schema_input_type=StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS)]
    ),
]
Biases = Annotated[dict[str, float], one_fault("give ids of tokens as text, each with a number from -100 to 100")]
Prompt = Annotated[str, Field(min_length=1)]
Prompts = Annotated[
    list[str], Field(min_length=1), BeforeValidator(_as_prompts, json_schema_input_type=Prompt | list[Prompt])
]


class ChatMessage(BaseModel):
    """One turn. `developer` is another word for `system`."""

    model_config = _OPEN
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Parts | None = None
    name: str | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = None


class Function(BaseModel):
    """A function that the client has; `parameters` is the JSON Schema of its arguments."""

    model_config = _KNOWN
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChatTool(BaseModel):
    """What may be called."""

    model_config = _KNOWN
    type: Literal["function"]
    function: Function


class FunctionName(BaseModel):
    model_config = _KNOWN
    name: str


class ChosenTool(BaseModel):
    """The one function that must be called; or `auto`, `none`, `required`, which clients send as a text."""

    model_config = _KNOWN
    type: Literal["auto", "none", "required", "function"]
    function: FunctionName | None = None


Choice = Annotated[
    ChosenTool,
    BeforeValidator(_as_choice, json_schema_input_type=Literal["auto", "none", "required"] | ChosenTool),
]


class StreamOptions(BaseModel):
    model_config = _KNOWN
    include_usage: bool | None = Field(None, description="Send one more piece at the end, with the usage.")


def _bounds(name: str) -> JsonDict:
    """The bounds of a number, as the service's own request has them: it is what checks it."""
    schema = GenerateRequest.model_json_schema()["properties"][name]
    return {key: schema[key] for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if key in schema}


_ALTERNATIVES: JsonDict = {"minimum": 0, "maximum": MOST_ALTERNATIVES}


class SamplingOptions(BaseModel):
    """What both requests have. Defaults are the service's own, as `/predict` has them, not OpenAI's."""

    model_config = _OPEN

    model: str | None = Field(
        None, description="A name that /v1/models lists: the service's, an adapter's, or \"base\" for none."
    )
    n: Annotated[int, Field(ge=1)] | None = Field(None, description="How many choices to make, with seeds in a row.")
    max_tokens: int | None = Field(None, description="Tokens at most.", json_schema_extra={"minimum": 1})
    temperature: float | None = Field(
        None, description="0 takes the likeliest token each time.", json_schema_extra=_bounds("temperature")
    )
    top_p: float | None = Field(None, json_schema_extra=_bounds("top_p"))
    top_k: int | None = Field(
        None, description="Not OpenAI's: choose among so many tokens.", json_schema_extra=_bounds("top_k")
    )
    min_p: float | None = Field(
        None,
        description="Not OpenAI's: leave out tokens below this share of the likeliest.",
        json_schema_extra=_bounds("min_p"),
    )
    repetition_penalty: float | None = Field(
        None, description="Not OpenAI's: above 1, repeat less.", json_schema_extra=_bounds("repetition_penalty")
    )
    presence_penalty: float | None = Field(None, json_schema_extra=_bounds("presence_penalty"))
    frequency_penalty: float | None = Field(None, json_schema_extra=_bounds("frequency_penalty"))
    logit_bias: Biases | None = Field(None, description="What to add to the logits of tokens, by their ids.")
    seed: int | None = None
    stop: Texts | None = Field(None, description="The answer ends before this text, or the first of these.")
    stream: bool | None = Field(None, description="Send the answer as it is made, as server-sent events.")
    stream_options: StreamOptions | None = None


class ChatRequest(SamplingOptions):
    """A conversation to go on with."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: int | None = Field(
        None, description="The newer name of max_tokens.", json_schema_extra={"minimum": 1}
    )
    logprobs: bool | None = None
    top_logprobs: int | None = Field(
        None, description="So many of the likeliest tokens at each place.", json_schema_extra=_ALTERNATIVES
    )
    tools: list[ChatTool] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = Field(None, description="false: one call at most.")
    response_format: ResponseFormat | None = Field(
        None, description='{"type": "text"}, "json_object", or "json_schema" with a schema that the answer follows.'
    )


class CompletionRequest(SamplingOptions):
    """Text to go on with, as it stands: no chat template is put around it."""

    prompt: Prompts
    echo: bool | None = Field(None, description="Begin the answer with the prompt.")
    logprobs: int | None = Field(
        None, description="So many of the likeliest tokens at each place.", json_schema_extra=_ALTERNATIVES
    )
    best_of: Annotated[int, Field(ge=1)] | None = Field(None, description="The same as n, or nothing.")
