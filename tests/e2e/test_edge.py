"""A real service's edge: keys, origins, limits, its log, its traces, its pages; over HTTP, with the real model."""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mlspec.serving import free_port, running, wait_until_healthy
from runtime.services import wait_until

pytestmark = pytest.mark.e2e

KEY = "a-good-key-1"
SECRET = "Zitronenfalter42"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: edge, project: e2e, description: "The edge"}
model:
  runner: mlx-lm
  base: {root: models, path: BASE}
  sampling: {max_tokens: 4}
service:
  auth: {api_key_env: EDGE_KEYS}
  cors: {origins: ["https://app.example.com"]}
  logging: {format: json}
  tracing: {sample_rate: 1.0}
targets: [{name: here, platform: linux}]
"""


class Collector(ThreadingHTTPServer):
    """What an OpenTelemetry collector is to an exporter: it takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.received: list[ExportTraceServiceRequest] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self, name: str) -> list[Span]:
        scopes = [s for request in self.received for r in request.resource_spans for s in r.scope_spans]
        return [span for scope in scopes for span in scope.spans if span.name == name]

    def resources(self) -> list[dict[str, Any]]:
        return [attributes(r.resource) for request in self.received for r in request.resource_spans]


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        assert isinstance(self.server, Collector)
        self.server.received.append(request)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the test's output."""


def attributes(of: Any) -> dict[str, Any]:
    """OTLP's attributes as a dict; of lists nothing but their first value."""
    found = {}
    for pair in of.attributes:
        value = pair.value.array_value.values[0] if pair.value.HasField("array_value") else pair.value
        found[pair.key] = getattr(value, value.WhichOneof("value"))
    return found


@dataclass
class Edge:
    """A running service, what its processes wrote, and where its spans went."""

    client: httpx.Client
    log: Path
    collector: Collector
    port: int

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def edge_bundle(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    base, _ = real_model
    project = tmp_path_factory.mktemp("edge")
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    (project / "edge.yaml").write_text(SPEC.replace("BASE", base.name))
    command = [sys.executable, "-m", "mlspec", "build", "edge.yaml", "--root", f"models={base.parent}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return project / "build/e2e/edge/here"


@pytest.fixture(scope="module")
def edge(edge_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    port, log, collector = free_port(), tmp_path_factory.mktemp("log") / "served.log", Collector()
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(port)]
    patched = pytest.MonkeyPatch()
    patched.setenv("EDGE_KEYS", f"another-key,{KEY}")
    patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    patched.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    url = f"http://127.0.0.1:{port}"
    with log.open("w+b") as output, running(command, edge_bundle, output) as process:
        wait_until_healthy(process, url, 300)
        with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=120) as client:
            yield Edge(client, log, collector, port)
    patched.undo()
    collector.shutdown()
    collector.server_close()


def raw(port: int, request: bytes) -> bytes:
    """The answer to bytes as they stand."""
    parts = []
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        # Who is refused before all is sent finds the connection closed.
        with suppress(ConnectionError):
            connection.sendall(request)
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                parts.append(part)
    return b"".join(parts)


def test_keys_are_wanted_and_no_other_opens(edge: Edge) -> None:
    body = {"prompt": "Hello", "max_tokens": 2}
    assert edge.client.post("/predict", json=body).status_code == 200
    for headers in (
        {"X-API-Key": ""},
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": "", "Authorization": "Bearer nothing-1"},
    ):
        response = edge.client.post("/predict", json=body, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
    headers = {"X-API-Key": "", "Authorization": f"Bearer {KEY}"}
    assert edge.client.post("/predict", json=body, headers=headers).status_code == 200


def test_what_is_open_without_a_key_and_what_is_not(edge: Edge) -> None:
    with httpx.Client(base_url=edge.client.base_url) as stranger:
        for path in (
            "/",
            "/docs",
            "/docs.json",
            "/docs/swagger-ui-bundle.js",
            "/health",
            "/metrics",
            "/livez",
            "/readyz",
        ):
            assert stranger.get(path).status_code == 200, path
        for path in json.loads(stranger.get("/docs.json").text)["paths"]:
            if path not in ("/health", "/metrics", "/livez", "/readyz"):
                assert stranger.post(path, json={}).status_code == 401, path
        # BentoML's own, which has no more than the service's name and its class's docstring.
        schema = stranger.get("/schema.json").json()
        assert (schema.pop("name"), schema.pop("routes")) == ("edge", [])
        assert set(schema) <= {"type", "description", "paths"}
        assert not schema.get("paths")


def test_a_bundle_without_keys_does_not_start(edge_bundle: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "EDGE_KEYS"}
    for value in (None, "short"):
        given = environment if value is None else {**environment, "EDGE_KEYS": value}
        command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1", "--port", str(free_port())]
        done = subprocess.run(
            command, cwd=edge_bundle, env=given, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode != 0
        assert "EDGE_KEYS" in done.stdout + done.stderr
        assert "short" not in done.stdout + done.stderr


def test_only_the_named_origin_may_ask(edge: Edge) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key", "X-API-Key": ""}
    allowed = edge.client.options("/predict", headers={**asked, "Origin": "https://app.example.com"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    assert edge.client.options("/predict", headers={**asked, "Origin": "https://evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("request_", "status", "of_ours"),
    [
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", 401, True),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: KEY\r\nContent-Length: 99999999\r\n\r\n", 413, True),
        (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nX-API-Key: KEY\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\n\r\n" + (b"10000\r\n" + b" " * 65536 + b"\r\n") * 20 + b"0\r\n\r\n",
            413,
            True,
        ),
        (b"GET /%0d%0aX-Evil:1 HTTP/1.1\r\nHost: x\r\nX-API-Key: KEY\r\nConnection: close\r\n\r\n", 404, True),
        # What uvicorn can't read it answers itself, in plain text; BentoML gives no say in it.
        (b"nonsense\r\n\r\n", 400, False),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n", 400, False),
    ],
)
def test_bad_requests_at_the_door(edge: Edge, request_: bytes, status: int, of_ours: bool) -> None:
    answer = raw(edge.port, request_.replace(b"KEY", KEY.encode()))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert b"x-evil" not in head.lower()
    assert (b'"request_id"' in body) == of_ours


def test_a_prompt_that_does_not_fit_says_so_in_numbers(edge: Edge) -> None:
    response = edge.client.post("/predict", json={"prompt": "word " * 20_000, "raw": True})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "prompt_too_long", "prompt")
    assert error["details"]["estimated_tokens"] > error["details"]["allowed_tokens"] > 0


def test_spans_of_a_request_arrive_at_the_collector(edge: Edge) -> None:
    headers = {"traceparent": PARENT, "X-Request-ID": "traced"}
    body = {"prompt": f"Say {SECRET}", "max_tokens": 3, "temperature": 0.0}
    answer = edge.client.post("/predict", json=body, headers=headers).json()
    wait_until(
        lambda: any(attributes(s).get("mlspec.request_id") == "traced" for s in edge.collector.spans("POST /predict"))
    )
    (outer,) = [s for s in edge.collector.spans("POST /predict") if attributes(s)["mlspec.request_id"] == "traced"]
    (inner,) = [s for s in edge.collector.spans("mlspec.generate") if s.parent_span_id == outer.span_id]
    assert outer.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert outer.parent_span_id.hex() == "b7ad6b7169203331"
    assert outer.kind == Span.SPAN_KIND_SERVER
    told = attributes(inner)
    assert told["gen_ai.usage.input_tokens"] == answer["usage"]["prompt_tokens"]
    assert told["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"] == 3
    assert (told["gen_ai.request.model"], told["gen_ai.provider.name"]) == ("edge", "mlx-lm")
    assert (told["gen_ai.request.max_tokens"], told["gen_ai.response.finish_reasons"]) == (3, "length")
    assert [event.name for event in inner.events] == ["mlspec.left_queue", "mlspec.first_token"]
    assert inner.start_time_unix_nano <= inner.events[1].time_unix_nano <= inner.end_time_unix_nano
    assert all(resource["service.name"] == "edge" for resource in edge.collector.resources())
    assert not edge.collector.spans("GET /health")


def test_the_calls_on_the_page_work_as_they_stand(edge: Edge) -> None:
    calls = [unescape(call) for call in re.findall("<pre>(.*?)</pre>", edge.client.get("/").text)]
    assert len(calls) >= 8
    for call in calls:
        command = ["sh", "-c", f"{call} -o /dev/null -w '%{{http_code}}'"]
        done = subprocess.run(command, env={**os.environ, "KEY": KEY}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "200"), call


def test_a_chat_is_told_as_one(edge: Edge) -> None:
    messages = [{"role": "user", "content": SECRET}]
    headers = {"X-Request-ID": "chat"}
    answer = edge.client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 3}, headers=headers)
    assert answer.status_code == 200
    name = "POST /v1/chat/completions"
    wait_until(lambda: any(attributes(s)["mlspec.request_id"] == "chat" for s in edge.collector.spans(name)))
    (outer,) = [s for s in edge.collector.spans(name) if attributes(s)["mlspec.request_id"] == "chat"]
    (inner,) = [s for s in edge.collector.spans("mlspec.generate") if s.parent_span_id == outer.span_id]
    told = attributes(inner)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.usage.output_tokens"] == answer.json()["usage"]["completion_tokens"]


def test_each_line_of_the_log_is_json_and_none_has_a_prompt(edge: Edge) -> None:
    with edge.client.stream("POST", "/predict/stream", json={"prompt": SECRET, "max_tokens": 60}) as stream:
        next(stream.iter_lines())
    edge.client.post("/predict", json={"prompt": SECRET, SECRET: SECRET})
    edge.client.post("/predict", content=f'{{"prompt": "{SECRET}', headers={"Content-Type": "application/json"})
    edge.client.post(f"/{SECRET}", params={"prompt": SECRET})
    edge.client.post("/predict", json={"prompt": SECRET, "max_tokens": 2}, headers={"X-Request-ID": "last"})
    wait_until(lambda: any(record.get("request_id") == "last" for record in edge.records()))
    text = edge.log.read_text()
    assert SECRET not in text
    assert KEY not in text
    (last,) = [r for r in edge.records() if r.get("request_id") == "last" and r["logger"] == "mlspec.access"]
    told = {key: last[key] for key in ("method", "path", "status", "tokens_out", "adapter", "service", "level")}
    assert list(told.values()) == ["POST", "/predict", 200, 2, "base", "edge", "INFO"]
    assert len(last["trace_id"]) == 32
    loggers = {record["logger"] for record in edge.records()}
    assert {"mlspec.access", "mlspec.model"} <= loggers
    assert any(logger.startswith("bentoml") for logger in loggers)


def test_no_span_has_a_prompt_or_a_key(edge: Edge) -> None:
    edge.client.post("/predict", params={"q": SECRET}, json={"prompt": SECRET}, headers={"User-Agent": SECRET})
    sent = len(edge.collector.spans("POST /predict"))
    wait_until(lambda: len(edge.collector.spans("POST /predict")) >= sent)
    for request in edge.collector.received:
        assert SECRET.encode() not in request.SerializeToString()
        assert KEY.encode() not in request.SerializeToString()


def test_no_key_is_in_the_bundle(edge_bundle: Path) -> None:
    for path in edge_bundle.rglob("*"):
        if path.is_file() and not path.is_symlink() and "models" not in path.parts:
            assert KEY.encode() not in path.read_bytes()
