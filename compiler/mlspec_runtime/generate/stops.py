"""Where an answer ends before its model ends it."""

from __future__ import annotations

from collections.abc import Sequence


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
        if not self._stops:
            return text
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
