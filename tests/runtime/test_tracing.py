"""Spans: one for a request, one for the model's part, with figures and without words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from mlspec_runtime.plan import parse_plan
from mlspec_runtime.tracing import Tracing
from runtime.bundles import runtime_block
from runtime.services import running
from runtime.test_app import go
from runtime.test_logs import SECRET, log_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_SECOND_NS = 1_000_000_000


class Spans:
    """What a service's requests gave."""

    def __init__(self, exporter: InMemorySpanExporter, tracing: Tracing) -> None:
        self._exporter = exporter
        self.tracing = tracing

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.all() if span.name == name]
        return found


@contextmanager
def spans_of(**options: Any) -> Iterator[Spans]:
    provider, exporter = TracerProvider(**options), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Spans(exporter, Tracing(provider, parse_plan({"runtime": runtime_block()})))
    provider.shutdown()


def test_a_request_has_a_span_and_the_model_one_within() -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            await service.client.post("/predict?x=1", json={"text": "a b"}, headers={"X-Request-ID": "r1"})
        outer, inner = spans.named("POST /predict"), spans.named("mlspec.generate")
        assert outer.kind is SpanKind.SERVER
        assert outer.attributes == {
            "http.request.method": "POST",
            "http.route": "/predict",
            "http.response.status_code": 200,
            "mlspec.request_id": "r1",
        }
        assert inner.parent == outer.context
        assert outer.parent is None
        assert dict(inner.attributes or {}) == {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "demo",
            "gen_ai.request.model": "demo",
            "gen_ai.response.model": "demo",
            "gen_ai.response.finish_reasons": (),
            "gen_ai.usage.input_tokens": 2,
            "gen_ai.usage.output_tokens": 2,
            "mlspec.queue_s": 0.0,
            "mlspec.target": "here",
        }

    with spans_of() as spans:
        go(check(spans))


def test_the_queue_and_the_first_token_are_events_in_time() -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            await service.client.post("/predict", json={"text": "a b", "pause_s": 0.1})
        span = spans.named("mlspec.generate")
        assert [event.name for event in span.events] == ["mlspec.left_queue", "mlspec.first_token"]
        assert span.start_time is not None
        assert span.end_time is not None
        assert [event.timestamp - span.start_time for event in span.events] == [0, _SECOND_NS // 10]
        assert span.start_time <= span.events[-1].timestamp <= span.end_time

    with spans_of() as spans:
        go(check(spans))


def test_a_clients_trace_goes_on() -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            await service.client.post("/predict", json={"text": "a"}, headers={"traceparent": PARENT})
            await service.client.post("/predict", json={"text": "a"}, headers={"traceparent": "00-nonsense"})
        first, second = [span for span in spans.all() if span.name == "POST /predict"]
        assert first.parent is not None
        assert f"{first.parent.span_id:016x}" == "b7ad6b7169203331"
        assert {f"{span.context.trace_id:032x}" for span in spans.all()[:2]} == {"0af7651916cd43dd8448eb211c80319c"}
        assert second.parent is None

    with spans_of() as spans:
        go(check(spans))


@pytest.mark.parametrize(
    ("body", "status", "code", "failed"),
    [
        ({}, 422, "invalid_request", False),
        ({"text": "a", "fail": "known"}, 400, "too_loud", False),
        ({"text": "a", "fail": "late"}, 500, "engine_error", True),
        ({"text": "a", "fail": "unknown"}, 500, "internal", True),
    ],
)
def test_an_error_is_told_by_its_code(body: dict[str, Any], status: int, code: str, failed: bool) -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            await service.client.post("/predict", json=body)
        span = spans.named("POST /predict")
        assert span.attributes is not None
        assert (span.attributes["http.response.status_code"], span.attributes["error.type"]) == (status, code)
        assert (span.status.status_code is StatusCode.ERROR) == failed
        assert span.status.description is None
        assert span.events == ()

    with spans_of() as spans:
        go(check(spans))


def test_no_words_of_a_client_are_in_a_span() -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            for fault in ("no", "known", "late", "unknown", "repeats"):
                body = {"text": SECRET, "fail": fault}
                headers = {"User-Agent": "geheim", "baggage": "a=geheim"}
                await service.client.post("/predict/stream", json=body, params={"q": SECRET}, headers=headers)
            await service.client.request("GEHEIM", f"/{SECRET}")
        told = json.dumps([json.loads(span.to_json()) for span in spans.all()], ensure_ascii=False)
        assert told.count("POST /predict/stream") == 5
        assert "other other" in told
        for piece in ("Kontonummer", "geheim", "GEHEIM", "DE0212"):
            assert piece not in told

    with spans_of() as spans:
        go(check(spans))


def test_probes_and_what_is_not_sampled_are_not_told() -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            await service.client.get("/health")
            await service.client.post("/predict", json={"text": "a"})

    with spans_of(sampler=ALWAYS_OFF) as spans:
        go(check(spans))
        assert spans.all() == []
    with spans_of() as spans:
        go(check(spans))
        assert [span.name for span in spans.all()] == ["mlspec.generate", "POST /predict"]


def test_lines_of_the_log_name_their_trace() -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            with log_of("json", tracing=True) as log:
                await service.client.post("/predict", json={"text": "a", "fail": "unknown"})
        (record,) = log.of("mlspec.http")
        span = spans.named("POST /predict")
        assert record["trace_id"] == f"{span.context.trace_id:032x}"
        assert record["span_id"] == f"{span.context.span_id:016x}"

    with spans_of() as spans:
        go(check(spans))


def test_at_its_end_a_request_leaves_no_span_at_work() -> None:
    async def check(spans: Spans) -> None:
        async with running(tracing=lambda: spans.tracing) as service:
            for _ in range(2):
                await service.client.post("/predict", json={"text": "a"})
        outer = [span for span in spans.all() if span.name == "POST /predict"]
        assert [span.parent for span in outer] == [None, None]

    with spans_of() as spans:
        go(check(spans))
