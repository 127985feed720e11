"""What is known of the request at work, for errors, logs and traces."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

from mlspec_runtime.submission import Measures, Output

REQUEST_ID_HEADER = "X-Request-ID"
_IDS = random.Random()  # noqa: S311
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@dataclass
class Computed:
    """What the model has done for a request by now; the sum, where one request asks for several answers."""

    answers: int = 0
    queue_s: float = 0.0
    time_to_first_token_s: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    reused_tokens: int = 0
    adapter: str | None = None
    finish_reasons: list[str] = field(default_factory=list)

    def add(self, measures: Measures) -> None:
        """Count an answer. Times are those of the first one."""
        if not self.answers:
            self.queue_s, self.time_to_first_token_s = measures.queue_s, measures.time_to_first_token_s
        self.answers += 1
        self.tokens_in += measures.prompt_tokens
        self.tokens_out += measures.completion_tokens
        self.reused_tokens += measures.reused_tokens


@dataclass
class RequestInfo:
    """A request, in `request.state.info`. `arrived_at` is of `time.monotonic`, `body` what was sent, `asked` what of it
    went to the runner first, `error_code` the last error's.
    """

    request_id: str
    operation: str
    arrived_at: float
    computed: Computed = field(default_factory=Computed)
    body: bytes = b""
    asked: object = None
    error_code: str | None = None

    def begun(self, body: object) -> None:
        """The runner is asked."""
        self.asked = self.asked or body

    def answered(self, output: Output) -> None:
        """The runner has given an output."""
        if output.measures is not None:
            self.computed.add(output.measures)
        if not output.final:
            return
        # Both are words of the task `generate`, and the runner's own: nothing that a client wrote.
        self.computed.adapter = getattr(output.data, "adapter", None)
        if reason := getattr(output.data, "finish_reason", None):
            self.computed.finish_reasons.append(str(reason))


_CURRENT: ContextVar[RequestInfo | None] = ContextVar("mlspec_request", default=None)


def enter(info: RequestInfo) -> None:
    """From here on, in this task and in those that it starts, this request is at work."""
    _CURRENT.set(info)


def current() -> RequestInfo | None:
    """The request at work; None outside of any."""
    return _CURRENT.get()


def safe_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's own id if it is short and of safe characters (it goes to logs and headers), else a new
    one.
    """
    for name, value in headers:
        if name == REQUEST_ID_HEADER.lower().encode():
            given = value.decode("latin-1")
            if _SAFE_ID.fullmatch(given):
                return given
    # No secret, so it needs not be asked of the system, which takes longer than all else here.
    return f"{_IDS.getrandbits(128):032x}"
