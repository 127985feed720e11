"""Streams of OpenAI's API: what is the same in all pieces of an answer is written once."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from mlspec_runtime.exchange import EventStream, Exchange
from mlspec_runtime.generate.messages import GenerateResponse, TokenEvent, ToolCall
from mlspec_runtime.generate.openai.answers import (
    Head,
    TextOffsets,
    chat_logprobs,
    completion_logprobs,
    tool_call,
    usage,
)
from mlspec_runtime.rows import RowOutput
from mlspec_runtime.submission import Output

DONE = b"data: [DONE]\n\n"
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Made once: `json.dumps` with these options makes one each time."""


class ChunkStream(EventStream):
    """Pieces as `data:`, then `[DONE]`; an error instead of it, in the shape of all errors."""

    def __init__(
        self, exchange: Exchange, first: Output, head: Head, *, include_usage: bool, choices_of_prompt: int
    ) -> None:
        super().__init__(exchange, first)
        # Without the closing brace: the choices follow.
        self._begin = f"data: {_json(head.model_dump())[:-1]},"
        self._end = ',"usage":null}\n\n' if include_usage else "}\n\n"
        self._include_usage = include_usage
        self._choices_of_prompt = choices_of_prompt
        self._answers: dict[int, GenerateResponse] = {}

    def event(self, output: Output) -> bytes:
        """The pieces of an output."""
        row = output.row if isinstance(output, RowOutput) else 0
        if isinstance(output.data, TokenEvent):
            return self.piece(row, output.data).encode()
        assert isinstance(output.data, GenerateResponse)  # noqa: S101 - the last output of the task
        self._answers[row] = output.data
        last = self.last_piece(row, output.data).encode()
        return last + self._closing() if output.final else last

    def error(self, body: dict[str, Any]) -> bytes:
        """An error, which OpenAI's client raises."""
        return f"data: {_json(body)}\n\n".encode()

    def piece(self, row: int, event: TokenEvent) -> str:
        """What was generated just now."""
        raise NotImplementedError

    def last_piece(self, row: int, answer: GenerateResponse) -> str:
        """How a choice ended."""
        raise NotImplementedError

    def choice(self, inside: str) -> str:
        """A piece of one choice, of the JSON inside it."""
        return f'{self._begin}"choices":[{{{inside}}}]{self._end}'

    def _closing(self) -> bytes:
        if not self._include_usage:
            return DONE
        answers = [self._answers[row] for row in sorted(self._answers)]
        told = usage(answers, self._choices_of_prompt).model_dump_json()
        return f'{self._begin}"choices":[],"usage":{told}}}\n\n'.encode() + DONE


class ChatStream(ChunkStream):
    """The first piece of a choice has the role, the last one the reason of its end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._calls: defaultdict[int, int] = defaultdict(int)
        self._begun: set[int] = set()

    def piece(self, row: int, event: TokenEvent) -> str:
        """What was generated just now."""
        if event.reasoning or event.tool_calls or event.logprobs:
            delta, logprobs = self._delta(row, event), self._logprobs(event)
        else:
            delta, logprobs = f'{{"content":{_json(event.text)}}}', "null"
        return self._opening(row) + self._chunk(row, delta, logprobs, "null")

    def last_piece(self, row: int, answer: GenerateResponse) -> str:
        """How a choice ended."""
        return self._opening(row) + self._chunk(row, "{}", "null", f'"{answer.finish_reason}"')

    def _opening(self, row: int) -> str:
        if row in self._begun:
            return ""
        self._begun.add(row)
        return self._chunk(row, '{"role":"assistant","content":"","refusal":null}', "null", "null")

    def _chunk(self, row: int, delta: str, logprobs: str, reason: str) -> str:
        return self.choice(f'"index":{row},"delta":{delta},"logprobs":{logprobs},"finish_reason":{reason}')

    def _delta(self, row: int, event: TokenEvent) -> str:
        delta: dict[str, Any] = {}
        if event.reasoning:
            delta["reasoning_content"] = event.reasoning
        if event.text:
            delta["content"] = event.text
        if event.tool_calls:
            delta["tool_calls"] = [self._new_call(row, call) for call in event.tool_calls]
        return _json(delta)

    def _new_call(self, row: int, call: ToolCall) -> dict[str, Any]:
        index, self._calls[row] = self._calls[row], self._calls[row] + 1
        return {"index": index, **tool_call(call).model_dump()}

    def _logprobs(self, event: TokenEvent) -> str:
        return "null" if event.logprobs is None else _json(chat_logprobs(event.logprobs).model_dump())


class CompletionStream(ChunkStream):
    """`echoed`: the prompt of each choice, which its first piece begins with."""

    def __init__(self, *args: Any, echoed: dict[int, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._echoed = dict(echoed)
        self._offsets: defaultdict[int, TextOffsets] = defaultdict(TextOffsets)

    def piece(self, row: int, event: TokenEvent) -> str:
        """What was generated just now."""
        logprobs = "null"
        if event.logprobs is not None:
            told = completion_logprobs(event.logprobs, self._offsets[row])
            logprobs = _json(told.model_dump())
        return self._chunk(row, self._echo(row) + event.text, logprobs, "null")

    def last_piece(self, row: int, answer: GenerateResponse) -> str:
        """How a choice ended."""
        return self._chunk(row, self._echo(row), "null", f'"{answer.finish_reason}"')

    def _echo(self, row: int) -> str:
        return self._echoed.pop(row, "") if self._echoed else ""

    def _chunk(self, row: int, text: str, logprobs: str, reason: str) -> str:
        return self.choice(f'"index":{row},"text":{_json(text)},"logprobs":{logprobs},"finish_reason":{reason}')
