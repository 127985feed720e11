"""The application over HTTP: answers, streams, errors in one shape, limits, health, metrics and documents."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import parse_plan
from mlspec_runtime.submission import Measures
from runtime.bundles import limits, planned_model, runtime_block
from runtime.services import Service, running, wait_until


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine."""
    asyncio.run(coroutine)


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a response, whose shape is checked on the way."""
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    always = {"operation", "code", "type", "message", "param", "request_id"}
    assert always <= set(error) <= always | {"field", "details", "retry_after_s"}
    assert error["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return error


def events_of(text: str) -> list[tuple[str, Any]]:
    """The events of a stream."""
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_predict_answers() -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.post("/predict", json={"text": "one two", "times": 2})
            assert response.status_code == 200
            assert response.json() == {"text": "one two one two", "words": 4}
            assert len(response.headers["x-request-id"]) == 32

    go(check())


def test_stream_sends_each_output_and_the_whole_answer_last() -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.post("/predict/stream", json={"text": "one zwölf"})
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert events_of(response.text) == [
                ("word", {"text": "one"}),
                ("word", {"text": "zwölf"}),
                ("done", {"text": "one zwölf", "words": 2}),
            ]

    go(check())


def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    async def check() -> None:
        async with running() as service:
            body = {"text": "one", "fail": "late"}
            response = await service.client.post("/predict/stream", json=body, headers={"X-Request-ID": "r1"})
            assert response.status_code == 200
            error = {"operation": "stream", "code": "engine_error", "type": "server_error", "message": "it broke"}
            expected = {**error, "param": None, "request_id": "r1"}
            assert events_of(response.text)[-1] == ("error", {"error": expected})
            assert service.value('mlspec_errors_total{code="engine_error",endpoint="stream"}') == 1

    go(check())


def test_an_error_before_the_first_output_of_a_stream_has_its_status() -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.post("/predict/stream", json={"text": "one", "fail": "known"})
            assert response.status_code == 400
            assert error_of(response)["code"] == "too_loud"

    go(check())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_bodies_in_any_utf_are_read(encoding: str) -> None:
    async def check() -> None:
        async with running() as service:
            headers = {"content-type": "application/json"}
            answer = await service.client.post("/predict", content='{"text": "é ü"}'.encode(encoding), headers=headers)
            assert answer.status_code == 200
            assert answer.json()["words"] == 2

    go(check())


@pytest.mark.parametrize(
    ("content", "headers", "status", "expected"),
    [
        ('{"text": ', {}, 400, {"code": "bad_json", "operation": "predict"}),
        ("[" * 100_000, {}, 413, {"code": "body_too_large"}),
        (
            b'{"text": "\xff"}',
            {},
            400,
            {"code": "bad_json", "message": "the body can't be read: it is not UTF-8 at byte 10; send UTF-8"},
        ),
        (gzip.compress(b'{"text": "a"}'), {"content-encoding": "gzip"}, 415, {"code": "unsupported_encoding"}),
        ('{"text": "a", "fail": "known"}', {"content-encoding": "identity"}, 400, {"code": "too_loud"}),
        ("", {}, 422, {"code": "invalid_request", "message": "the body is empty; send a JSON object"}),
        ("[]", {}, 422, {"code": "invalid_request"}),
        ("{}", {}, 422, {"field": "text", "message": "text: Field required"}),
        ('{"text": ""}', {}, 422, {"field": "text"}),
        ('{"text": "a", "times": 10}', {}, 422, {"field": "times"}),
        ('{"text": "a", "times": "2"}', {}, 422, {"field": "times"}),
        ('{"text": "a", "tmies": 2}', {}, 422, {"field": "tmies"}),
        ('{"text": "a"}', {"content-type": "text/plain"}, 415, {"code": "unsupported_media_type"}),
        ('{"text": "a", "fail": "known"}', {}, 400, {"code": "too_loud", "field": "text", "message": "not so loud"}),
        ('{"text": "a", "fail": "late"}', {}, 500, {"code": "engine_error"}),
    ],
)
def test_a_bad_request(content: str | bytes, headers: dict[str, str], status: int, expected: dict[str, str]) -> None:
    async def check() -> None:
        async with running() as service:
            headers_ = {"content-type": "application/json", **headers}
            response = await service.client.post("/predict", content=content, headers=headers_)
            assert response.status_code == status
            error = error_of(response)
            assert {key: error[key] for key in expected} == expected

    go(check())


def test_head_answers_as_get_without_a_body() -> None:
    async def check() -> None:
        async with running() as service:
            for path in ("/health", "/", "/docs", "/docs.json"):
                head, get = await service.client.head(path), await service.client.get(path)
                assert (head.status_code, head.content) == (200, b""), path
                assert head.headers["content-type"] == get.headers["content-type"]
                assert int(head.headers["content-length"]) > 0
            missing = await service.client.head("/nothing")
            assert (missing.status_code, missing.content) == (404, b"")
            assert service.value('mlspec_requests_total{endpoint="health",status="200"}') == 2

    go(check())


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/predict", "POST"),
        ("GET", "/predict", "POST"),
        ("POST", "/health", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("PUT", "/metrics", "GET, HEAD"),
    ],
)
def test_a_refused_method_says_which_are_taken(method: str, path: str, allowed: str) -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.request(method, path)
            assert (response.status_code, response.headers["allow"]) == (405, allowed)
            if method != "HEAD":
                error = error_of(response)
                assert (error["code"], error["message"]) == ("method_not_allowed", f"{path} takes {allowed} alone")

    go(check())


def test_a_websocket_is_refused_at_once() -> None:
    async def check() -> None:
        sent: list[Any] = []

        async def receive() -> Any:
            raise AssertionError("nothing is waited for")

        async def send(message: Any) -> None:
            sent.append(message)

        async with running() as service:
            await service.app({"type": "websocket", "path": "/health", "headers": []}, receive, send)
            assert [message["type"] for message in sent] == ["websocket.close"]

    go(check())


def test_many_faults_are_told_in_one_message() -> None:
    async def check() -> None:
        async with running() as service:
            body = {"text": "", "times": 0, "pause_s": "x", "a": 1, "b": 2, "c": 3}
            error = error_of(await service.client.post("/predict", json=body))
            assert error["field"] == "text"
            assert "times: " in error["message"]
            assert error["message"].endswith("; and 1 more")

    go(check())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"times": ' + "1" * 5000 + "}", "a number has more than 4300 digits"),
        ("[" * 200_000, "its lists and objects are nested too deeply"),
    ],
)
def test_what_python_cannot_read_is_a_bad_request(content: str, reason: str) -> None:
    async def check() -> None:
        async with running(limits=limits(max_body_bytes=1_000_000)) as service:
            headers = {"content-type": "application/json"}
            response = await service.client.post("/predict", content=content, headers=headers)
            assert response.status_code == 400
            error = error_of(response)
            assert (error["code"], error["message"]) == ("bad_json", f"the body can't be read: {reason}")

    go(check())


def test_an_unknown_exception_is_in_the_log_and_not_in_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.post("/predict", json={"text": "a", "fail": "unknown"})
            assert response.status_code == 500
            error = error_of(response)
            assert error["code"] == "internal"
            assert "secret" not in response.text
            assert error["request_id"] in caplog.text
            assert "secret detail" in caplog.text

    go(check())


def test_unknown_paths_and_methods() -> None:
    async def check() -> None:
        async with running() as service:
            missing = await service.client.get("/nowhere")
            assert (missing.status_code, error_of(missing)["code"]) == (404, "not_found")
            assert error_of(missing)["operation"] == "other"
            method = await service.client.get("/predict")
            assert (method.status_code, error_of(method)["code"]) == (405, "method_not_allowed")
            assert method.headers["allow"] == "POST"

    go(check())


def test_endpoints_that_are_off_are_not_there() -> None:
    async def check() -> None:
        async with running(endpoints=["predict"]) as service:
            assert (await service.client.post("/predict/stream", json={"text": "a"})).status_code == 404
            assert "/predict/stream" not in (await service.client.get("/docs.json")).json()["paths"]

    go(check())


@pytest.mark.parametrize("given", ["abc-1", "a" * 64])
def test_a_request_id_is_taken_over(given: str) -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.get("/nowhere", headers={"X-Request-ID": given})
            assert error_of(response)["request_id"] == given

    go(check())


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "ä", 'a"', "a\tb"])
def test_an_unsafe_request_id_is_replaced(given: str) -> None:
    async def check() -> None:
        async with running() as service:
            headers = [(b"x-request-id", given.encode())]
            response = await service.client.get("/nowhere", headers=headers)
            assert len(error_of(response)["request_id"]) == 32

    go(check())


def test_a_body_over_the_limit_is_refused_announced_or_chunked() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1000

    async def check() -> None:
        async with running() as service:
            headers = {"content-type": "application/json"}
            announced = await service.client.post("/predict", content=b" " * 5000, headers=headers)
            chunked = await service.client.post("/predict", content=chunks(), headers=headers)
            for response in (announced, chunked):
                assert response.status_code == 413
                assert "4096 bytes" in error_of(response)["message"]

    go(check())


def test_the_deadline_cancels_the_request() -> None:
    async def check() -> None:
        async with running(limits=limits(timeout_s=0.2)) as service:
            body = {"text": "a b c d e f", "times": 9, "pause_s": 0.05}
            response = await service.client.post("/predict", json=body, headers={"X-Request-ID": "slow"})
            assert response.status_code == 504
            assert error_of(response)["code"] == "deadline_exceeded"
            wait_until(lambda: service.runner.stopped == ["slow"])  # type: ignore[attr-defined]
            wait_until(lambda: service.runner.stats().running == 0)

    go(check())


def test_the_deadline_ends_a_stream_with_an_error_event() -> None:
    async def check() -> None:
        async with running(limits=limits(timeout_s=0.3)) as service:
            body = {"text": "a b c d e f", "times": 9, "pause_s": 0.05}
            response = await service.client.post("/predict/stream", json=body)
            name, data = events_of(response.text)[-1]
            assert (name, data["error"]["code"]) == ("error", "deadline_exceeded")

    go(check())


def test_a_full_queue_says_when_to_come_again() -> None:
    async def check() -> None:
        async with running(limits=limits(queue=1)) as service:
            slow = {"text": "a", "pause_s": 0.5}
            posts = [asyncio.create_task(service.client.post("/predict", json=slow)) for _ in range(2)]
            while service.runner.stats().waiting < 1:
                await asyncio.sleep(0.01)
            assert (service.value("mlspec_queue_depth"), service.value("mlspec_in_flight")) == (1, 1)
            full = await service.client.post("/predict", json=slow)
            assert full.status_code == 429
            assert int(full.headers["retry-after"]) >= error_of(full)["retry_after_s"] >= 1
            assert [(await post).status_code for post in posts] == [200, 200]
            assert (service.value("mlspec_queue_depth"), service.value("mlspec_in_flight")) == (0, 0)

    go(check())


async def leave_early(service: Service, path: str, text: str = "a b c", *, leave_when: Any) -> None:
    """Post to the application without a server between, and disconnect when told."""
    left = asyncio.Event()
    body = json.dumps({"text": text, "times": 9, "pause_s": 0.05}).encode()
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not sent:
            sent.append("body")
            return {"type": "http.request", "body": body, "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"x-request-id", b"gone")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "http_version": "1.1",
        "scheme": "http",
        "server": ("service", 80),
        "client": ("client", 1),
    }
    call: Any = asyncio.ensure_future(service.app(scope, receive, send))
    while not leave_when(sent):
        await asyncio.sleep(0.01)
    left.set()
    await asyncio.wait_for(call, 2)


@pytest.mark.parametrize("path", ["/predict", "/predict/stream"])
def test_a_client_that_leaves_frees_its_place(path: str) -> None:
    async def check() -> None:
        async with running() as service:
            await leave_early(service, path, leave_when=lambda sent: service.runner.stats().running)
            wait_until(lambda: service.runner.stopped == ["gone"])  # type: ignore[attr-defined]
            wait_until(lambda: service.runner.stats().running == 0)

    go(check())


def test_a_client_that_leaves_within_a_stream_frees_its_place() -> None:
    async def check() -> None:
        async with running() as service:
            await leave_early(service, "/predict/stream", leave_when=lambda sent: len(sent) > 4)
            wait_until(lambda: service.runner.stopped == ["gone"])  # type: ignore[attr-defined]

    go(check())


def test_health_is_ok_once_loaded() -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.get("/health")
            assert response.status_code == 200
            body = response.json()
            assert (body["status"], body["service"], body["checked"]) == ("ok", "demo", "computed")

    go(check())


def test_while_loading_health_and_predict_say_so() -> None:
    async def check() -> None:
        async with running(settings={"load_s": 0.3}, wait=False) as service:
            assert (
                service.value(
                    'mlspec_model_loaded{project="tests",runner="echo",service="demo",target="here",task="generate"}'
                )
                == 0
            )
            for response in (
                await service.client.get("/health"),
                await service.client.post("/predict", json={"text": "a"}),
            ):
                assert response.status_code == 503
                assert error_of(response)["code"] == "model_loading"
                assert "retry-after" in response.headers
            wait_until(lambda: service.model.ready)
            assert (await service.client.get("/health")).status_code == 200

    go(check())


def test_a_broken_engine_fails_health_with_503() -> None:
    async def check() -> None:
        async with running() as service:
            service.runner.broken = True  # type: ignore[attr-defined]
            response = await service.client.get("/health")
            assert response.status_code == 503
            error = error_of(response)
            assert (error["operation"], error["code"], error["message"]) == (
                "health",
                "engine_dead",
                "the thread has died",
            )

    go(check())


def test_a_load_that_fails_is_told_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with running(settings={"raise": "secret detail"}, wait=False) as service:
            wait_until(lambda: "secret detail" in caplog.text)
            for response in (
                await service.client.get("/health"),
                await service.client.post("/predict", json={"text": "a"}),
            ):
                assert response.status_code == 503
                assert error_of(response)["code"] == "load_failed"
                assert "secret" not in response.text

    go(check())


def test_a_missing_model_is_told_with_a_remedy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "m").mkdir()
    models = [planned_model("base", tmp_path / "m")]

    async def check() -> None:
        async with running(tmp_path / "bundle", models=models, wait=False) as service:
            wait_until(lambda: "not ready" in caplog.text)
            response = await service.client.post("/predict", json={"text": "a"})
            assert response.status_code == 503
            error = error_of(response)
            assert error["code"] == "model_missing"
            assert "models/base" in error["message"]
            assert "MLSPEC_MODELS" in error["message"]
            await service.client.get("/health")
            assert caplog.text.count("not ready") == 1

    go(check())


def test_a_missing_variable_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with running(environment={"OTHER": "x"}, required=["API_KEY", "OTHER"], wait=False) as service:
            wait_until(lambda: "not ready" in caplog.text)
            error = error_of(await service.client.get("/health"))
            assert error["code"] == "environment_missing"
            assert "API_KEY" in error["message"]
            assert "OTHER" not in error["message"]

    go(check())


def test_metrics_count_requests_tokens_and_times() -> None:
    async def check() -> None:
        async with running() as service:
            await service.client.post("/predict", json={"text": "a b c"})
            await service.client.post("/predict", json={})
            await service.client.get("/nowhere")
            await service.client.get("/elsewhere")
            assert service.value('mlspec_requests_total{endpoint="predict",status="200"}') == 1
            assert service.value('mlspec_requests_total{endpoint="predict",status="422"}') == 1
            assert service.value('mlspec_requests_total{endpoint="other",status="404"}') == 2
            assert service.value('mlspec_tokens_total{kind="prompt"}') == 3
            assert service.value('mlspec_tokens_total{kind="completion"}') == 3
            assert service.value("mlspec_time_to_first_token_seconds_count") == 1
            assert service.value('mlspec_request_seconds_count{endpoint="predict"}') == 2
            assert 'task="generate"} 1.0' in service.metrics()

    go(check())


def test_metrics_count_what_the_prompt_cache_saved() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(parse_plan({"runtime": runtime_block()}), registry)
    for reused in (0, 30, 12):
        metrics.computed(Measures(0.0, 0.1, 50, 8, reused_tokens=reused))
    assert registry.get_sample_value("mlspec_prompt_cache_hits_total") == 2
    assert registry.get_sample_value("mlspec_tokens_total", {"kind": "reused"}) == 42
    assert registry.get_sample_value("mlspec_tokens_total", {"kind": "prompt"}) == 150


def test_the_documents_have_types_examples_and_errors() -> None:
    async def check() -> None:
        async with running() as service:
            document = (await service.client.get("/docs.json")).json()
            assert document["info"]["title"] == "demo"
            post = document["paths"]["/predict"]["post"]
            content = post["requestBody"]["content"]["application/json"]
            assert content["schema"]["$ref"].endswith("EchoRequest")
            assert content["examples"]["short"]["value"] == {"text": "a <b> 'c'"}
            assert post["responses"]["429"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorBody")
            stream = document["paths"]["/predict/stream"]["post"]["responses"]["200"]
            assert list(stream["content"]) == ["text/event-stream"]
            assert {"/health", "/metrics", "/livez"} <= set(document["paths"])
            again = (await service.client.get("/docs.json")).json()
            assert again == document

    go(check())


def test_the_page_loads_nothing_from_elsewhere_and_escapes() -> None:
    async def check() -> None:
        async with running() as service:
            response = await service.client.get("/")
            assert response.status_code == 200
            assert "A &lt;demo&gt;" in response.text
            assert "<demo>" not in response.text
            assert "<b>" not in response.text
            assert "<script" not in response.text
            assert "http://" not in response.text
            assert "https://" not in response.text
            assert "default-src 'none'" in response.headers["content-security-policy"]

    go(check())


def test_closing_answers_those_who_wait() -> None:
    async def check() -> None:
        async with running() as service:
            slow = {"text": "a b c d", "pause_s": 0.3}
            post = asyncio.create_task(service.client.post("/predict", json=slow))
            while not service.runner.stats().running:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(service.model.close)
            response = await post
            assert (response.status_code, error_of(response)["code"]) == (503, "shutting_down")
            after = await service.client.post("/predict", json={"text": "a"})
            assert error_of(after)["code"] == "shutting_down"

    go(check())
