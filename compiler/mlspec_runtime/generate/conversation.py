"""The turns of a conversation, and the tools that a model may call in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from mlspec_runtime.generate.faults import one_fault
from mlspec_runtime.generate.json_values import JsonObject, read_object
from mlspec_runtime.generate.schemas import check_parameters

# A bound makes pydantic look into a text: half a surrogate pair in it is refused.
Text = Annotated[str, Field(min_length=0)]
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class Tool(BaseModel):
    """A function that the client has. `parameters` is the JSON Schema of its arguments; none: it takes none."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: ToolName
    description: Text | None = None
    parameters: Annotated[JsonObject, AfterValidator(check_parameters)] | None = None


class NamedTool(BaseModel):
    """The one tool that must be called."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: ToolName


ToolChoice = Annotated[
    Literal["auto", "none", "required"] | NamedTool, one_fault("give 'auto', 'none', 'required' or the name of a tool")
]


class ToolCall(BaseModel):
    """A call that the model makes. `arguments` is the text of a JSON object."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: Annotated[str, Field(min_length=1, max_length=128)]
    name: ToolName
    arguments: Text

    @field_validator("arguments")
    @classmethod
    def _object(cls, arguments: str) -> str:
        read_object(arguments)
        return arguments


class Message(BaseModel):
    """One turn of a conversation. An assistant's may call tools; a tool's is what such a call gave."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = Field(
        None, description="The calls of an assistant's turn."
    )
    tool_call_id: Text | None = Field(None, description="Which call a tool's turn answers.")
    name: Text | None = None

    @model_validator(mode="after")
    def _of_its_role(self) -> Message:
        if self.tool_calls is not None and self.role != "assistant":
            raise ValueError("'tool_calls' are an assistant's")
        if self.tool_call_id is not None and self.role != "tool":
            raise ValueError("'tool_call_id' is a tool's")
        if self.content is None and self.tool_calls is None:
            raise ValueError("'content' is missing")
        return self
