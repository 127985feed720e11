"""From tokens to text: one detokenizer a request, an end at stop texts, reasoning and calls of tools apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mlspec_runtime.generate.messages import FinishReason, TokenEvent, TokenLogprobs, ToolCall
from mlspec_runtime.generate.stops import StopFinder


class Detokenizer(Protocol):
    """mlx_lm's streaming detokenizer: `last_segment` is the text that became readable since it was last asked
    for.
    """

    def add_token(self, token: int) -> None: ...
    def finalize(self) -> None: ...
    @property
    def last_segment(self) -> str: ...


def continuing(detokenizers: Callable[[], Detokenizer], token: int) -> Detokenizer:
    """A detokenizer for text that goes on behind a token of the prompt: a new one leaves the first blank out."""
    detokenizer = detokenizers()
    detokenizer.add_token(token)
    # Without a segment it holds some of the token back, which would come with the answer.
    return detokenizer if detokenizer.last_segment else detokenizers()


class Parts:
    """What an answer's text is found to be: the text itself, reasoning, and calls of tools. Nothing is wanted after
    what is `last`.
    """

    __slots__ = ("last", "reasoning", "text", "tool_calls")

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.reasoning = ""
        self.tool_calls: list[ToolCall] = []
        self.last = False

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.tool_calls)


class Splitter(Protocol):
    """Takes one answer's text apart, where a model marks reasoning and calls of tools in it. What may become a mark is
    held back.
    """

    def feed(self, text: str) -> Parts: ...

    def finish(self, *, cut: bool) -> Parts:
        """What is left, once no more will come; `cut`: more would have come."""


class Format(Protocol):
    """What a transcript must know of a request beyond its stop texts."""

    def splitter(self) -> Splitter:
        """A new one."""


class Transcript:
    """The answer of one request as it grows. Without a format all is text."""

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str], format: Format | None = None) -> None:
        self._detokenizer = detokenizer
        self._stops = StopFinder(stops)
        self._splitter = format.splitter() if format is not None else None
        self._new = Parts()
        self._taken_tokens = 0
        self._ended = False
        self._finished = False
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self.tokens: list[int] = []
        self.tool_calls: list[ToolCall] = []
        self.logprobs: list[TokenLogprobs] = []
        """As many as `tokens`, or none."""

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    @property
    def stopped(self) -> bool:
        """A stop text came, or all that is wanted is there."""
        return self._stops.found or self._ended

    def add(self, token: int, logprobs: TokenLogprobs | None = None) -> None:
        """Take a token in, which is no end token."""
        self.tokens.append(token)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        self._detokenizer.add_token(token)
        self._read(self._detokenizer.last_segment)

    def finish(self, *, cut: bool = False) -> None:
        """No more tokens come: what was held back is shown. `cut`: the model did not end it."""
        self._detokenizer.finalize()
        self._read(self._detokenizer.last_segment)
        if self._splitter is not None:
            self._split(self._splitter.finish(cut=cut))
        self._show(self._stops.flush())
        self._finished = True

    def take(self) -> TokenEvent | None:
        """What became showable since this was last asked for, with the tokens that came since; None if nothing did.
        With log probabilities the last tokens go out even if they show nothing.
        """
        new = self._new
        ended = self._finished or self.stopped
        if not new and not (ended and len(self.logprobs) > self._taken_tokens):
            return None
        self._new = Parts()
        since, self._taken_tokens = self._taken_tokens, len(self.tokens)
        return TokenEvent.model_construct(
            text=new.text,
            tokens=self.tokens[since:],
            reasoning=new.reasoning,
            tool_calls=new.tool_calls,
            logprobs=self.logprobs[since:] or None,
        )

    def reason(self, reason: FinishReason) -> FinishReason:
        """Why it ended, if the model or the engine ended it for this reason."""
        if self._stops.found:
            return "stop"
        return "tool_calls" if self._ended or (reason == "stop" and self.tool_calls) else reason

    def _read(self, text: str) -> None:
        if self._splitter is None:
            self._show(self._stops.feed(text))
        elif text and not self.stopped:
            self._split(self._splitter.feed(text))

    def _split(self, parts: Parts) -> None:
        if self.stopped:
            return
        if parts.reasoning:
            self._reasoning.append(parts.reasoning)
            self._new.reasoning += parts.reasoning
        self._show(self._stops.feed(parts.text))
        if parts.tool_calls and not self.stopped:
            self.tool_calls.extend(parts.tool_calls)
            self._new.tool_calls.extend(parts.tool_calls)
            self._ended = parts.last

    def _show(self, text: str) -> None:
        if text:
            self._texts.append(text)
            self._new.text += text
