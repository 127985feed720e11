"""The requests of a load: the same for the same spec, options and seed, and each another one unless told otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlspec.bench.samples import Request
from mlspec.bench.words import text

EndpointName = Literal["stream", "predict", "chat", "completions"]
PATHS: Mapping[EndpointName, str] = {
    "stream": "/predict/stream",
    "predict": "/predict",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
}
MAX_TOKENS = 64
WARM_UP_TOKENS = 8
_REPEATED = 8
"""How many different prompts there are when they are to come again."""
_OPENAI = ("temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias")
"""What a test's body and OpenAI's requests call alike."""


@dataclass(frozen=True)
class Workload:
    """What is asked. `bodies` are those of `POST /predict` to begin with, of the spec's tests; without any, prompts are
    generated of `prompt_tokens` words. `shared_prefix` words come before each prompt. `adapters` take turns; none: the
    service's default. `max_tokens` None: as a body says, else at most 64. `rows` are those of bodies that were made up
    for a model of tensors.
    """

    endpoint: EndpointName
    task: str = "generate"
    bodies: tuple[Mapping[str, Any], ...] = ()
    prompt_tokens: int = 64
    max_tokens: int | None = None
    most_tokens: int = MAX_TOKENS
    shared_prefix: int = 0
    adapters: tuple[str, ...] = ()
    repeat: bool = False
    seed: int = 0
    rows: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def requests(self, first: int) -> Iterator[Request]:
        """Endless, from the one with this number on."""
        number = first
        while True:
            yield self.request(number)
            number += 1

    def request(self, number: int, *, warm_up: bool = False) -> Request:
        """The request of this number; for a warm-up with a prompt that no number has, and a short answer."""
        kind = number % max(_REPEATED, len(self.bodies)) if self.repeat else number
        body = self._body(f"w{number}" if warm_up else str(kind), kind)
        if warm_up and self.task == "generate":
            body["max_tokens"] = min(WARM_UP_TOKENS, body["max_tokens"])
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        return Request(PATHS[self.endpoint], content.encode(), self.headers)

    def _body(self, kind: str, number: int) -> dict[str, Any]:
        base = dict(self.bodies[number % len(self.bodies)]) if self.bodies else {}
        if self.task != "generate":
            return base if self.repeat else _shifted(base, number)
        base["max_tokens"] = self._max_tokens(base)
        if self.adapters:
            base["adapter"] = self.adapters[number % len(self.adapters)]
        lead = " ".join(filter(None, (self._prefix(), self._lead(kind))))
        asked = _with_lead(base, lead)
        return asked if self.endpoint in ("stream", "predict") else self._as_openai(asked)

    def _max_tokens(self, body: Mapping[str, Any]) -> int:
        told = self.max_tokens if self.max_tokens is not None else body.get("max_tokens")
        return told if isinstance(told, int) else min(MAX_TOKENS, self.most_tokens)

    def _prefix(self) -> str:
        return text(f"{self.seed}/shared", self.shared_prefix) if self.shared_prefix else ""

    def _lead(self, kind: str) -> str:
        """What makes a prompt another one, from its begin on: what prompts begin with alike isn't computed twice."""
        mark = f"{text(f'{self.seed}/{kind}', 2)} {kind}"
        return f"{mark}." if self.bodies else f"{mark} {text(f'{self.seed}/prompt/{kind}', self.prompt_tokens)}"

    def _as_openai(self, body: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: body[name] for name in _OPENAI if body.get(name) is not None}
        known |= {"model": body["adapter"]} if "adapter" in body else {}
        known |= {"max_tokens": body["max_tokens"], "stream": True, "stream_options": {"include_usage": True}}
        messages = body.get("messages") or [{"role": "user", "content": body["prompt"]}]
        if self.endpoint == "chat":
            return {"messages": messages, **known}
        return {"prompt": body.get("prompt") or _last_of_user(messages)["content"], **known}


def _with_lead(body: dict[str, Any], lead: str) -> dict[str, Any]:
    """The body with these words before what its user says."""
    if not body.get("messages"):
        return {**body, "prompt": " ".join(filter(None, (lead, body.get("prompt"))))}
    messages = [dict(message) for message in body["messages"]]
    asked = _last_of_user(messages)
    asked["content"] = f"{lead} {asked.get('content') or ''}".strip()
    return {**body, "messages": messages}


def _last_of_user(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    of_user = [message for message in messages if message.get("role") == "user"]
    return (of_user or list(messages))[-1]


def _shifted(body: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The body with its first fractional number a little greater; as it is where there is none."""
    left = [number]

    def copied(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: copied(item) for key, item in value.items()}
        if isinstance(value, list):
            return [copied(item) for item in value]
        if isinstance(value, float) and left:
            return value * (1 + left.pop() * 1e-5)
        return value

    return {key: copied(value) for key, value in body.items()}
