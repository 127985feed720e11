"""Requests and answers of the task `generate`: all their types in one place."""

from __future__ import annotations

from mlspec_runtime.generate.answers import (
    FinishReason,
    GenerateResponse,
    Timings,
    TokenAlternative,
    TokenEvent,
    TokenLogprobs,
    Usage,
)
from mlspec_runtime.generate.conversation import Message, NamedTool, Tool, ToolCall, ToolChoice
from mlspec_runtime.generate.formats import JsonSchema, ResponseFormat
from mlspec_runtime.generate.requests import GenerateRequest, request_type
from mlspec_runtime.generate.sampling import MAX_SEED, Grammar, Sampling

__all__ = [
    "MAX_SEED",
    "FinishReason",
    "GenerateRequest",
    "GenerateResponse",
    "Grammar",
    "JsonSchema",
    "Message",
    "NamedTool",
    "ResponseFormat",
    "Sampling",
    "Timings",
    "TokenAlternative",
    "TokenEvent",
    "TokenLogprobs",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "Usage",
    "request_type",
]
