"""A line of the log for each request; and, only if the plan asks for prompts, what was asked and answered."""

from __future__ import annotations

import logging
from typing import Any

from mlspec_runtime.request_info import RequestInfo

LOG = logging.getLogger("mlspec.access")
PROMPTS = logging.getLogger("mlspec.prompts")
MOST_BYTES = 4096
"""Of a body, in the log."""


def log_access(info: RequestInfo, method: str, path: str, status: int, took_s: float) -> None:
    """What was asked for, and how it went. `path` is one of the service's own, never what the client wrote."""
    # Probes ask every few seconds.
    level = logging.DEBUG if info.operation == "health" and status == 200 else logging.INFO
    if not LOG.isEnabledFor(level):
        return
    figures = _figures(info)
    told = ", ".join([f"{took_s * 1000:.1f} ms", *(f"{name} {value}" for name, value in figures.items())])
    fields = {"method": method, "path": path, "status": status, "duration_s": round(took_s, 6), **figures}
    line = f"{method} {path} {status} ({told}) request {info.request_id}"
    # As LOG.log does it, but for the search of the stack for who logs.
    LOG.handle(LOG.makeRecord(LOG.name, level, __file__, 0, "%s", (line,), None, extra={"fields": fields}))


def _figures(info: RequestInfo) -> dict[str, Any]:
    """What is known of the computing."""
    computed = info.computed
    figures: dict[str, Any] = {
        "error": info.error_code,
        "tokens_in": computed.tokens_in or None,
        "tokens_out": computed.tokens_out or None,
        "adapter": computed.adapter,
    }
    return {name: value for name, value in figures.items() if value is not None}


def log_body(which: str, body: bytes, *, whole: bool = True) -> None:
    """A request's or an answer's body, cut."""
    text = body[:MOST_BYTES].decode(errors="replace")
    cut = "" if whole and len(body) <= MOST_BYTES else "…"
    PROMPTS.info("%s: %s%s", which, text, cut)
