"""From a request's text to token ids, as the `mlx_lm.generate` command does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from mlspec_runtime.errors import ServiceError

from .runtime_prompt_bounds import PromptBound

Turn = Mapping[str, Any]
_SAMPLE: Turn = {"role": "user", "content": "Hello"}


class PromptTooLongError(Exception):
    """It has `fewest_tokens` or more, and was not tokenized."""

    def __init__(self, fewest_tokens: int) -> None:
        super().__init__(f"{fewest_tokens} tokens or more")
        self.fewest_tokens = fewest_tokens


class PromptEncoder:
    """Around mlx_lm's tokenizer, which one thread at a time may use. `system_prompt` begins each conversation that has
    no system turn at its beginning. A text that is sure to have `context_length` tokens or more raises
    PromptTooLongError.
    """

    def __init__(self, tokenizer: Any, context_length: int, system_prompt: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._context_length = context_length
        self._bound = PromptBound(tokenizer)
        self._system = [{"role": "system", "content": system_prompt}] if system_prompt is not None else []

    @property
    def has_template(self) -> bool:
        return bool(self._tokenizer.has_chat_template)

    @property
    def has_tools(self) -> bool:
        """Whether the chat template writes tools in a form that mlx_lm can read back."""
        return self.has_template and bool(self._tokenizer.has_tool_calling)

    @property
    def probe(self) -> list[int]:
        """One token to generate from."""
        return [min(self._tokenizer.eos_token_ids, default=0)]

    def check(self, of_spec: str) -> None:
        """Try the chat template. Raises ServiceError (503) if it can't be used; `of_spec` names what the spec has."""
        if self._system and not self.has_template:
            message = f"{of_spec} needs a chat template, and this model has none; give one with model.chat_template"
            raise ServiceError("no_chat_template", message, 503)
        try:
            if self.has_template:
                self._text([_SAMPLE], None)
        # Whatever a template raises, no request could be answered with it.
        except Exception as problem:
            message = f"{of_spec} can't be used: the chat template refuses a conversation ({_told(problem)}); mend it"
            raise ServiceError("bad_chat_template", message, 503) from problem

    def conversation(
        self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] | None = None, *, field: str
    ) -> list[int]:
        """The ids of a conversation and of the start of the answer. Raises ServiceError (400) where there is no chat
        template, or it refuses the conversation, and PromptTooLongError.
        """
        if not self.has_template:
            message = "this model has no chat template; send 'prompt'"
            raise ServiceError("no_chat_template", message, 400, field=field)
        try:
            return self._ids(self._text(turns, tools), add_special_tokens=False)
        except PromptTooLongError:
            raise
        except RecursionError as problem:
            message = "it is nested too deeply for the model's chat template"
            raise ServiceError("bad_messages", message, 400, field="tools" if tools else field) from problem
        # A template is a program of the model's, and fails in its own ways at what it doesn't expect.
        except Exception as problem:
            message = f"the model's chat template refuses this: {_told(problem)}"
            raise ServiceError("bad_messages", message, 400, field=field) from problem

    def _text(self, turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] | None) -> str:
        if self._system and turns[0]["role"] != "system":
            turns = [*self._system, *turns]
        options = {"tools": list(tools)} if tools else {}
        return str(
            self._tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True, **options)
        )

    def text(self, text: str) -> list[int]:
        """The ids of a text as it stands, with the model's first token unless the text begins with it. Raises
        PromptTooLongError.
        """
        first = self._tokenizer.bos_token
        return self._ids(text, add_special_tokens=first is None or not text.startswith(first))

    def _ids(self, text: str, *, add_special_tokens: bool) -> list[int]:
        fewest_tokens = self._bound.fewest_tokens(text)
        if fewest_tokens >= self._context_length:
            raise PromptTooLongError(fewest_tokens)
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))


def _told(problem: Exception) -> str:
    """What a template says of itself; of others' errors the kind alone, as their texts may repeat the prompt."""
    if isinstance(problem, TemplateSyntaxError):
        return f"line {problem.lineno}: {problem.message}"
    return str(problem) if isinstance(problem, TemplateError) else type(problem).__name__
