"""From tokens to text: one detokenizer a request, and an end at stop texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Detokenizer(Protocol):
    """mlx_lm's streaming detokenizer: `last_segment` is the text that became readable since it was last asked
    for.
    """

    def add_token(self, token: int) -> None: ...
    def finalize(self) -> None: ...
    @property
    def last_segment(self) -> str: ...


class StopFinder:
    """Cuts text before the first stop text. What may be the beginning of one is held back until that is
    clear.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """Take more text in; the answer is what can be shown. Nothing follows once `found`."""
        if self.found:
            return ""
        text = self._held + text
        ends = [at for at in map(text.find, self._stops) if at >= 0]
        if ends:
            self.found, self._held = True, ""
            return text[: min(ends)]
        safe = len(text) - self._possible_beginning(text)
        self._held = text[safe:]
        return text[:safe]

    def flush(self) -> str:
        """The text that was held back, once no more will come."""
        text, self._held = self._held, ""
        return text

    def _possible_beginning(self, text: str) -> int:
        longest = min(len(text), max(map(len, self._stops), default=1) - 1)
        for size in range(longest, 0, -1):
            if any(len(stop) > size and text.endswith(stop[:size]) for stop in self._stops):
                return size
        return 0


class Transcript:
    """The answer of one request as it grows."""

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stops = StopFinder(stops)
        self._shown_tokens = 0
        self.tokens: list[int] = []
        self.text = ""

    @property
    def stopped(self) -> bool:
        """A stop text came."""
        return self._stops.found

    def add(self, token: int) -> str:
        """Take a token in; the answer is the text that it makes readable."""
        self.tokens.append(token)
        self._detokenizer.add_token(token)
        return self._show(self._stops.feed(self._detokenizer.last_segment))

    def finish(self) -> str:
        """The rest of the text: no more tokens come."""
        self._detokenizer.finalize()
        rest = self._stops.feed(self._detokenizer.last_segment)
        return self._show(rest + self._stops.flush())

    def take_tokens(self) -> list[int]:
        """The tokens since this was last asked for."""
        tokens = self.tokens[self._shown_tokens :]
        self._shown_tokens = len(self.tokens)
        return tokens

    def _show(self, text: str) -> str:
        self.text += text
        return text
