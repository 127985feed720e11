"""From a request to what the engine computes: its tokens, how to sample, which form its answer has."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateRequest, Grammar, NamedTool, Sampling, Tool
from mlspec_runtime.generate.transcript import Format

from .runtime_answers import AnswerForms
from .runtime_grammar import Grammars, json_of
from .runtime_prompts import PromptEncoder, PromptTooLongError
from .runtime_settings import Settings
from .runtime_tools import ToolMarks, calls_grammar, definitions, turn

LOG = logging.getLogger("mlspec.mlx_lm")
_NO_TOOLS = (
    "how this model would write a call of a tool is not known: its chat template has none of the marks by which mlx_lm "
    "tells that, as '<tool_call>' with 'tool_call.name'; send the request without 'tools'"
)
SCHEMA_FIELD = "response_format.json_schema.schema"


@dataclass(frozen=True)
class Reading:
    """A request as the engine takes it; `continues`: its answer goes on where the prompt's text ends."""

    prompt: list[int]
    sampling: Sampling
    adapter: str
    format: Format | None
    continues: bool


class RequestReader:
    """For one loaded model with logits of `vocabulary` tokens (None: of all that its tokenizer has). One thread at a
    time may use it. Raises ServiceError as it is made if the chat template or the system prompt of the spec can't be
    used.
    """

    def __init__(self, tokenizer: Any, settings: Settings, vocabulary: int | None = None) -> None:
        self._settings = settings
        self._vocabulary = min(len(tokenizer), vocabulary or len(tokenizer))
        self._forms = AnswerForms(tokenizer)
        self._grammars = _grammars(tokenizer)
        self._tokenizer = tokenizer
        self.encoder = PromptEncoder(tokenizer, settings.context_length, settings.system_prompt)
        if settings.chat_template is not None or settings.system_prompt is not None:
            has = {"model.chat_template": settings.chat_template, "model.system_prompt": settings.system_prompt}
            self.encoder.check(" with ".join(key for key, value in has.items() if value is not None))

    def read(self, request: GenerateRequest) -> Reading:
        """Raises ServiceError (400) with the field that is at fault."""
        tools = request.offered_tools()
        if tools and not self.encoder.has_tools:
            raise ServiceError("no_tools", _NO_TOOLS, 400, field="tools")
        prompt = self._prompt(request, tools)
        sampling = self._sampling(request, prompt, tools)
        form = None if request.raw else self._form(request, prompt, tools)
        adapter = request.adapter or self._settings.default_adapter
        return Reading(prompt, sampling, adapter, form, continues=self._is_text(request))

    def _form(self, request: GenerateRequest, prompt: Sequence[int], tools: Sequence[Tool]) -> Format | None:
        forced = request.tool_choice not in ("auto", "none")
        return self._forms.form(prompt, tools, several=request.parallel_tool_calls, forced=forced)

    def _prompt(self, request: GenerateRequest, tools: Sequence[Tool]) -> list[int]:
        field = "prompt" if request.messages is None else "messages"
        try:
            prompt = self._encoded(request, tools, field)
        except PromptTooLongError as problem:
            raise _too_long(problem.fewest_tokens, self._settings, field, known="at least ") from problem
        if not prompt:
            raise ServiceError("empty_prompt", "the prompt has no tokens", 400, field=field)
        if len(prompt) >= self._settings.context_length:
            raise _too_long(len(prompt), self._settings, field)
        return prompt

    def _encoded(self, request: GenerateRequest, tools: Sequence[Tool], field: str) -> list[int]:
        text = request.prompt or ""
        if request.messages is not None:
            turns = [turn(message) for message in request.messages]
        elif self._is_text(request):
            return self.encoder.text(text)
        else:
            turns = [{"role": "user", "content": text}]
        return self.encoder.conversation(turns, definitions(tools), field=field)

    def _is_text(self, request: GenerateRequest) -> bool:
        """Whether the prompt goes to the model as it stands."""
        return request.prompt is not None and (request.raw or not self.encoder.has_template)

    def _sampling(self, request: GenerateRequest, prompt: Sequence[int], tools: Sequence[Tool]) -> Sampling:
        sampling = request.sampling()
        if any(token >= self._vocabulary for token, _ in sampling.logit_bias):
            message = f"this model has the tokens 0 to {self._vocabulary - 1}"
            raise ServiceError("bad_token", message, 400, field="logit_bias")
        room = self._settings.context_length - len(prompt)
        grammar, field = self._wanted(request, sampling.grammar, tools)
        return replace(
            sampling,
            max_tokens=min(sampling.max_tokens, room),
            grammar=self._followed(grammar, field, request, prompt) if grammar is not None else None,
        )

    def _wanted(
        self, request: GenerateRequest, grammar: Grammar | None, tools: Sequence[Tool]
    ) -> tuple[Grammar | None, str]:
        """The grammar that the answer must follow, and the field that asks for it."""
        field = SCHEMA_FIELD if grammar is not None and grammar.kind == "json_schema" else "response_format"
        choice = request.tool_choice
        if isinstance(choice, NamedTool):
            chosen = [tool for tool in tools if tool.name == choice.name]
            return self._calls(chosen, "tool_choice", several=False), "tools"
        if choice == "required":
            return self._calls(tools, "tool_choice", several=request.parallel_tool_calls), "tools"
        if not tools or grammar is None:
            return grammar, field
        several = request.parallel_tool_calls
        return self._calls(tools, "response_format", several=several, or_json=grammar), field

    def _calls(self, tools: Sequence[Tool], field: str, *, several: bool, or_json: Grammar | None = None) -> Grammar:
        marks = self._forms.marks
        if marks is None or not marks.are_json:
            message = f"this model writes calls in a form that can't be enforced; send 'tools' without '{field}'"
            raise ServiceError("calls_not_enforceable", message, 400, field=field)
        schema = None if or_json is None else json.loads(or_json.text or '{"type": "object"}')
        special = self._special(marks)
        text = calls_grammar(tools, marks, json_of, several=several, special=special, or_json=schema)
        return Grammar("lark", text)

    def _special(self, marks: ToolMarks) -> dict[str, int]:
        found = {}
        for mark in (marks.start, marks.end):
            ids = self._tokenizer.encode(mark, add_special_tokens=False)
            if self._grammars is not None and len(ids) == 1 and self._grammars.is_special(ids[0]):
                found[mark] = ids[0]
        return found

    def _followed(self, grammar: Grammar, field: str, request: GenerateRequest, prompt: Sequence[int]) -> Grammar:
        if self._grammars is None:
            message = "this model's tokenizer allows no answers of a given form"
            raise ServiceError("no_formats", message, 400, field=field)
        thinking = None if request.raw else self._forms.thinking(prompt)
        return self._grammars.followed(grammar, thinking, field)


def _grammars(tokenizer: Any) -> Grammars | None:
    # One that is written in Python, as some families' are, can't be read by llguidance.
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        LOG.info("this model's tokenizer has no tokenizer.json: response_format and tool_choice can't be enforced")
        return None
    return Grammars(tokenizer)


def _too_long(tokens: int, settings: Settings, field: str, known: str = "") -> ServiceError:
    context, each = settings.context_length, settings.memory.request_bytes
    message = f"the prompt has {known}{tokens} tokens, {context - 1} are allowed: with the answer the context holds "
    message += str(context)
    details = {"estimated_tokens": tokens, "allowed_tokens": context - 1}
    if each is not None:
        estimated = math.ceil((tokens + 1) * each / context)
        message += f"; it would take {known}{estimated} bytes of memory, {each} are allowed"
        details |= {"estimated_bytes": estimated, "allowed_bytes": each}
    return ServiceError("prompt_too_long", message, 400, field=field, details=details)
