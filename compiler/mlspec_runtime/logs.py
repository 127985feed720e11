"""How log lines look: text, or JSON. No line holds what a client sent, unless the plan asks for prompts."""

from __future__ import annotations

import copy
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from mlspec_runtime.plan import Logging, ServiceInfo
from mlspec_runtime.redaction import BODIES, shortened
from mlspec_runtime.request_info import current

LOG = logging.getLogger("mlspec.logs")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

# C0 and C1 controls, Unicode's own line ends, and what turns the direction of writing.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FRAME = '  File "'


def configure(
    settings: Logging, service: ServiceInfo, *, tracing: bool = False, handlers: Iterable[logging.Handler] | None = None
) -> None:
    """Let these handlers, by default all that this process's loggers have, write in the plan's format. Again when
    libraries have brought handlers of their own.
    """
    for handler in _all_handlers() if handlers is None else handlers:
        handler.setFormatter(_formatter(settings, service, handler.formatter, tracing))


def _all_handlers() -> set[logging.Handler]:
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    return {handler for logger in loggers for handler in logger.handlers}


def _formatter(
    settings: Logging, service: ServiceInfo, present: logging.Formatter | None, tracing: bool
) -> logging.Formatter:
    # A second bundle in one process (as tests have) finds the first one's.
    inner = present.inner if isinstance(present, SafeFormatter) else present or logging.Formatter()
    if settings.format == "json":
        return JsonFormatter(inner, service, prompts=settings.prompts, trace=_trace_ids if tracing else None)
    return SafeFormatter(inner, prompts=settings.prompts)


def set_level(name: str | None) -> None:
    """Let the service's own loggers write from this level on, by its name in any case; INFO without one."""
    levels, own = logging.getLevelNamesMapping(), logging.getLogger("mlspec")
    level = levels.get((name or "INFO").strip().upper())
    own.setLevel(logging.INFO if level is None else level)
    if level is None:
        LOG.warning("there is no log level %r, so it is INFO; the levels are %s", name, ", ".join(_LEVELS))


class SafeFormatter(logging.Formatter):
    """Lines as another formatter makes them, but nothing in a record can begin a line of its own, or holds a part of a
    request that is at work (unless `prompts` may be told).
    """

    def __init__(self, inner: logging.Formatter, *, prompts: bool = False) -> None:
        super().__init__()
        self.inner = inner
        self._prompts = prompts

    def format(self, record: logging.LogRecord) -> str:
        plain = copy.copy(record)
        plain.msg, plain.args = escaped(self.told(record)), None
        if record.exc_info:
            plain.exc_text = self.formatException(record.exc_info)
        return self.inner.format(plain)

    def told(self, record: logging.LogRecord) -> str:
        """The record's message; a warning may be somebody's who repeats what was asked."""
        message = record.getMessage()
        return message if self._prompts or record.levelno < logging.WARNING else BODIES.without(message)

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        """A traceback: its frames as they are, the exceptions' own texts cleaned and indented."""
        return "".join(map(self._told_part, traceback.format_exception(*ei))).rstrip("\n")

    def _told_part(self, part: str) -> str:
        if part.startswith(_FRAME):
            return part
        told = part if self._prompts else BODIES.without(shortened(part))
        lines = told.strip("\n").split("\n")
        return "\n    ".join(map(escaped, lines)) + "\n"


class JsonFormatter(SafeFormatter):
    """One JSON object a line. A record's `fields` (`extra={"fields": {…}}`) are keys of their own."""

    def __init__(
        self,
        inner: logging.Formatter,
        service: ServiceInfo,
        *,
        prompts: bool = False,
        trace: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        super().__init__(inner, prompts=prompts)
        self._service = {"service": service.name, "project": service.project, "target": service.target}
        self._trace = trace

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self.told(record),
            **self._service,
        }
        if at_work := current():
            line["request_id"] = at_work.request_id
        line.update(self._trace() if self._trace else {})
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return escaped(json.dumps(line, ensure_ascii=False, default=str))


def escaped(text: str) -> str:
    """The text with each control character written as `\\u….`, which JSON reads back."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _trace_ids() -> dict[str, str]:
    """The trace and the span at work, as OpenTelemetry's log model names them."""
    from opentelemetry.trace import get_current_span

    span = get_current_span().get_span_context()
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}
