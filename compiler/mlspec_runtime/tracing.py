"""OpenTelemetry: a span for each request and, in it, one for what the model did. Names and attributes are those of the
semantic conventions (HTTP, and GenAI as of 1.37); prompts, answers, query strings and headers are in none.

The spans are made here and not by BentoML's middleware, which would make one more for each token sent and put the query
string into its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from opentelemetry import context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.request_info import RequestInfo

_PARENT_HEADERS = (b"traceparent", b"tracestate")
_UNTRACED = ("health",)
_NANOSECONDS = 1_000_000_000
_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
}
"""Numbers alone: a text in a request may be anybody's."""
_OPERATIONS = {"chat": "chat", "completions": "text_completion"}


class Tracing:
    """Makes spans by a provider, which samples and exports them."""

    def __init__(self, provider: TracerProvider, plan: RuntimePlan) -> None:
        self._tracer = provider.get_tracer("mlspec")
        self._plan = plan

    def begin(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], info: RequestInfo
    ) -> RequestTrace | None:
        """Begin a request's span, a child of what its headers name, and make it the one at work."""
        if info.operation in _UNTRACED:
            return None
        given = {name.decode(): value.decode("latin-1") for name, value in headers if name in _PARENT_HEADERS}
        parent = TraceContextTextMapPropagator().extract(given)
        return RequestTrace(self._tracer, self._plan, f"{method} {path}", parent, info)


class RequestTrace:
    """The span of one request; `end` adds the model's part."""

    def __init__(self, tracer: Tracer, plan: RuntimePlan, name: str, parent: Context, info: RequestInfo) -> None:
        self._tracer = tracer
        self._plan = plan
        self._info = info
        method, _, path = name.partition(" ")
        attributes = {"http.request.method": method, "http.route": path, "mlspec.request_id": info.request_id}
        self._began_at_ns = time.time_ns()
        self._span = tracer.start_span(
            name, parent, kind=SpanKind.SERVER, attributes=attributes, start_time=self._began_at_ns
        )
        self._token = context.attach(set_span_in_context(self._span))

    def end(self, status: int) -> None:
        """The answer has ended."""
        context.detach(self._token)
        if self._info.asked is not None and self._span.get_span_context().trace_flags.sampled:
            self._add_computing()
        self._span.set_attribute("http.response.status_code", status)
        self._finish(self._span, failed=status >= 500)

    def _finish(self, span: Span, *, failed: bool) -> None:
        if self._info.error_code is not None:
            span.set_attribute("error.type", self._info.error_code)
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _add_computing(self) -> None:
        """The span of what the model did; its times are known by now."""
        computed = self._info.computed
        span = self._tracer.start_span(
            f"mlspec.{self._plan.task}",
            set_span_in_context(self._span),
            kind=SpanKind.INTERNAL,
            attributes=self._attributes(),
            start_time=self._began_at_ns,
        )
        if computed.answers:
            span.add_event("mlspec.left_queue", timestamp=self._at_ns(computed.queue_s))
        if computed.time_to_first_token_s is not None:
            span.add_event("mlspec.first_token", timestamp=self._at_ns(computed.time_to_first_token_s))
        self._finish(span, failed=self._info.error_code is not None)

    def _at_ns(self, after_s: float) -> int:
        return self._began_at_ns + int(after_s * _NANOSECONDS)

    def _attributes(self) -> dict[str, Any]:
        info, computed = self._info, self._info.computed
        service = self._plan.service.name
        attributes: dict[str, Any] = {"mlspec.target": self._plan.service.target, "mlspec.queue_s": computed.queue_s}
        if self._plan.task != "generate":
            return attributes
        asked = {key: getattr(info.asked, name, None) for name, key in _ASKED.items()}
        return {
            **attributes,
            **{key: value for key, value in asked.items() if isinstance(value, int | float)},
            "gen_ai.operation.name": _OPERATIONS.get(info.operation, "generate_content"),
            "gen_ai.provider.name": self._plan.runner.name,
            "gen_ai.request.model": service,
            "gen_ai.response.model": computed.adapter or service,
            "gen_ai.response.finish_reasons": computed.finish_reasons,
            "gen_ai.usage.input_tokens": computed.tokens_in,
            "gen_ai.usage.output_tokens": computed.tokens_out,
        }
