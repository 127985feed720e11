"""The form of a model's answers: which of their text is reasoning, and which a call of a tool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlx_lm.generate import TextStateMachine, make_text_state_machine

from mlspec_runtime.generate.messages import Tool
from mlspec_runtime.generate.transcript import Parts, Splitter

from .runtime_grammar import Thinking
from .runtime_tools import ToolMarks

_machine: Any = make_text_state_machine
_Machine: Any = TextStateMachine
NORMAL, REASONING, TOOL = "normal", "reasoning", "tool"
"""mlx_lm's names for what a text can be."""


class AnswerForms:
    """Of one model, by what its tokenizer tells."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._plain = _machine(_WithoutTools(tokenizer))
        self._calling = _machine(tokenizer)
        self._marked = bool(tokenizer.has_thinking or tokenizer.structural_markers or tokenizer.response_transitions)
        self.marks: ToolMarks | None = None
        if tokenizer.has_tool_calling:
            end = tokenizer.tool_call_end or ""
            self.marks = ToolMarks(tokenizer.tool_call_start, end, tokenizer.tool_parser)

    def thinking(self, prompt: Sequence[int]) -> Thinking | None:
        """How the model thinks after this prompt; None: it doesn't."""
        if not self._tokenizer.has_thinking:
            return None
        tokens = list(prompt)
        begun = self._tokenizer.rfind_think_start(tokens) > self._tokenizer.rfind_think_end(tokens)
        return Thinking(tuple(self._tokenizer.think_start_tokens), tuple(self._tokenizer.think_end_tokens), begun)

    def form(
        self, prompt: Sequence[int], tools: Sequence[Tool], *, several: bool, forced: bool = False
    ) -> AnswerForm | None:
        """What a transcript must know of the answer to this prompt; None where all of it is text. `several`: it may
        have more calls than one; `forced`: it has calls and no text.
        """
        if not tools and not self._marked:
            return None
        thinking = self.thinking(prompt)
        initial = REASONING if thinking is not None and thinking.begun else NORMAL
        machine = self._calling if tools else self._plain
        initial = self._tokenizer.response_initial_state or initial
        return AnswerForm(machine, initial, self.marks, tools, several=several, forced=forced)


class _WithoutTools:
    """A tokenizer for a request without tools: what looks like a call is text."""

    has_tool_calling = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class AnswerForm:
    """Of one answer."""

    def __init__(
        self,
        machine: Any,
        initial: str,
        marks: ToolMarks | None,
        tools: Sequence[Tool],
        *,
        several: bool,
        forced: bool = False,
    ) -> None:
        self._machine = machine
        self._initial = initial
        self._marks = marks
        self._tools = tools
        self._several = several
        self._forced = forced

    def splitter(self) -> Splitter:
        state = self._machine.make_state(self._initial)
        return AnswerSplitter(state, self._marks, self._tools, several=self._several, forced=self._forced)


class AnswerSplitter:
    """Takes an answer apart as mlx_lm's server does, but what is no call stays text, with its marks. White space around
    reasoning and calls is none of the text. A call that was cut off is shown nowhere: nobody could use it.
    """

    def __init__(
        self,
        state: Any,
        marks: ToolMarks | None,
        tools: Sequence[Tool],
        *,
        several: bool = True,
        forced: bool = False,
    ) -> None:
        self._state = state
        self._marks = marks
        self._tools = tools
        self._several = several
        self._forced = forced
        self._call = ""
        self._at_edge = {NORMAL: state[0] != NORMAL, REASONING: True}

    def feed(self, text: str) -> Parts:
        self._state, segments = _Machine.split(self._state, text)
        parts = Parts()
        for index, (name, segment) in enumerate(segments):
            self._take(parts, name, segment, whole=index < len(segments) - 1)
            if parts.last:
                break
        return parts

    def finish(self, *, cut: bool) -> Parts:
        parts = Parts()
        self._state, text, name = _Machine.flush(self._state)
        self._take(parts, name, text, whole=False)
        if name == TOOL and self._tools:
            self._end_call(parts, ended=False, cut=cut)
        return parts

    def _take(self, parts: Parts, name: str | None, segment: str, *, whole: bool) -> None:
        if name == TOOL and self._tools:
            self._call += segment
            if whole:
                self._end_call(parts, ended=True)
        elif name == REASONING:
            parts.reasoning += self._inner(REASONING, segment)
            self._at_edge[NORMAL] = True
        # Between forced calls, and in a mark that was cut off.
        elif not self._forced:
            parts.text += self._inner(NORMAL, segment)

    def _inner(self, name: str, segment: str) -> str:
        if self._at_edge[name]:
            segment = segment.lstrip()
            self._at_edge[name] = not segment
        return segment

    def _end_call(self, parts: Parts, *, ended: bool, cut: bool = False) -> None:
        assert self._marks is not None  # noqa: S101 - a model without marks is given no tools
        text, self._call = self._call, ""
        try:
            calls = self._marks.calls(text, self._tools)
            parts.tool_calls.extend(calls if self._several else calls[: 1 - len(parts.tool_calls)])
            parts.last = not self._several
            self._at_edge[NORMAL] = True
        except ValueError:
            if cut and (self._forced or self._marks.may_begin(text)):
                return
            end = self._marks.end if ended else ""
            parts.text += f"{self._marks.start}{text}{end}"
            self._at_edge[NORMAL] = False
