"""Keeps what clients send out of the log: exceptions like to repeat the value that they stumbled over."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlspec_runtime.request_info import RequestInfo

MOST_CHARACTERS = 500
"""Of one exception's message."""
_WHOLE = 6
_PIECE = 12
_LEFT_OUT = "[from the request]"


class Bodies:
    """The bodies of the requests at work. From any thread."""

    def __init__(self) -> None:
        self._at_work: dict[int, RequestInfo] = {}

    @contextmanager
    def holding(self, info: RequestInfo) -> Iterator[None]:
        """This request is at work."""
        self._at_work[id(info)] = info
        try:
            yield
        finally:
            self._at_work.pop(id(info), None)

    def keep(self, info: RequestInfo, owner: object) -> None:
        """It is at work as long as there is `owner`: a runner may be at it when the client has left."""
        self._at_work[id(owner)] = info
        weakref.finalize(owner, self._at_work.pop, id(owner), None).atexit = False

    def without(self, text: str) -> str:
        """The text without the pieces that some body holds: whole strings of 6 characters or more, and whatever has 12
        characters in a row in common with one.
        """
        bodies = {info.body for info in list(self._at_work.values())}
        strings = [string for body in bodies for string in _strings(body)]
        for whole in sorted({s for s in strings if _WHOLE <= len(s) < _PIECE}, key=len, reverse=True):
            text = text.replace(whole, _LEFT_OUT)
        return _without_pieces(text, "\0".join(s for s in strings if len(s) >= _PIECE))


BODIES = Bodies()
"""Those of this process: a log's formatter has no other way to them."""


def shortened(text: str) -> str:
    """The beginning of a long text: each place of it is looked for in each body at work."""
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"


def _strings(body: bytes) -> Iterator[str]:
    """All strings of a JSON document, keys too; the whole text of what is none."""
    text = body.decode(errors="replace")
    try:
        left: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        left = [text]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value


def _without_pieces(text: str, known: str) -> str:
    kept, at = "", 0
    while at < len(text):
        end = at + _PIECE
        if end > len(text) or text[at:end] not in known:
            kept, at = kept + text[at], at + 1
            continue
        while end < len(text) and text[at : end + 1] in known:
            end += 1
        kept, at = kept + _LEFT_OUT, end
    return kept
