"""What an answer's body says: tokens, text and errors, of our services, OpenAI's streams and plain JSON.

Done when the load is over, so that reading JSON doesn't disturb what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlspec.bench.http_answer import HttpAnswer

_END = b"[DONE]"
_UNNAMED = "message"
_LONGEST_CODE = 64


@dataclass
class Content:
    """What was found; times as they came."""

    chunks_s: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    counted: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)
    from_cache: bool = False
    error: str = ""
    ended: bool = False

    @property
    def tokens(self) -> int:
        return _number(self.usage.get("completion_tokens")) or self.counted

    @property
    def prompt_tokens(self) -> int:
        return _number(self.usage.get("prompt_tokens"))

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that the service had read before."""
        details = self.usage.get("prompt_tokens_details")
        told = details if isinstance(details, dict) else self.usage
        return _number(told.get("cached_tokens"))


def content_of(answer: HttpAnswer) -> Content:
    """Read a whole body, or as much of it as came."""
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        found = _of_stream(answer.pieces)
    else:
        found = _of_json(b"".join(piece for _, piece in answer.pieces))
    if answer.status >= 400:
        found.error = found.error or f"http_{answer.status}"
    return found


def _of_json(body: bytes) -> Content:
    found = Content(ended=True)
    data = _decoded(body)
    _take_whole(found, data)
    found.texts.append(_text_of_answer(data))
    return found


def _of_stream(pieces: Sequence[tuple[float, bytes]]) -> Content:
    found = Content()
    for at, name, data in events(pieces):
        if data == _END:
            found.ended = True
        else:
            _take_event(found, at, name, _decoded(data))
    if not found.ended and not found.error:
        found.error = "incomplete"
    return found


def events(pieces: Sequence[tuple[float, bytes]]) -> Iterator[tuple[float, str, bytes]]:
    """The server-sent events: when their last byte came, name, data (WHATWG HTML, 9.2.6; lines may end in CRLF)."""
    rest = b""
    for at, piece in pieces:
        *whole, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in whole:
            name, data = _fields(block)
            if data:
                yield at, name, data


def _fields(block: bytes) -> tuple[str, bytes]:
    name, data = _UNNAMED, []
    for line in block.split(b"\n"):
        key, _, value = line.partition(b":")
        if key == b"data":
            data.append(value.removeprefix(b" "))
        elif key == b"event":
            name = value.strip().decode("utf-8", "replace")
    return name, b"\n".join(data)


def _take_event(found: Content, at: float, name: str, data: Mapping[str, Any]) -> None:
    _take_whole(found, data)
    if name == "done":
        found.ended = True
        if not found.chunks_s:
            found.chunks_s.append(at)
            found.texts.append(_text_of_answer(data))
        return
    text = _text_of_chunk(data)
    tokens = data.get("tokens")
    found.counted += len(tokens) if isinstance(tokens, list) else bool(text)
    if text:
        found.chunks_s.append(at)
        found.texts.append(text)


def _take_whole(found: Content, data: Mapping[str, Any]) -> None:
    """What events and whole answers tell alike."""
    if isinstance(data.get("usage"), dict):
        found.usage = data["usage"]
    found.from_cache = found.from_cache or data.get("cached") is True
    if error := data.get("error"):
        told = (error.get("code") or error.get("type")) if isinstance(error, dict) else None
        found.error = str(told or "error")[:_LONGEST_CODE]


def _text_of_chunk(data: Mapping[str, Any]) -> str:
    """A piece's text: of our own event, or of OpenAI's choices. Calls of tools and reasoning count as text."""
    deltas = [data]
    for choice in _dicts(data.get("choices")):
        deltas += [choice, *_dicts([choice.get("delta")])]
    return "".join(_said(delta) for delta in deltas)


def _said(delta: Mapping[str, Any]) -> str:
    told = [delta.get(key) for key in ("reasoning", "reasoning_content", "content", "text")]
    calls = json.dumps(delta["tool_calls"]) if delta.get("tool_calls") else ""
    return "".join(text for text in told if isinstance(text, str)) + calls


def _text_of_answer(data: Mapping[str, Any]) -> str:
    messages = [_dicts([choice.get("message")]) or [choice] for choice in _dicts(data.get("choices"))]
    return "".join(_said(one) for one in (data, *(message for found in messages for message in found)))


def _dicts(values: object) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
