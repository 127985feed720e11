"""The load client against a small server of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from bench_server import OURS, Answering, answering, event, head, in_odd_pieces, listening, of_json, serving
from mlspec.bench.client import Load, Request, percentile, run
from mlspec.serving import free_port


def asking(path: str, count: int) -> list[Request]:
    return [Request(path, json.dumps({"seed": seed}).encode(), (("X-Test", "1"),)) for seed in range(count)]


@pytest.mark.parametrize("framing", ["chunked", "length", "closed"])
@pytest.mark.parametrize(
    ("what", "text", "tokens", "prompt", "cached"),
    [
        ("ours", "Hello\n\nthere", 5, 7, 4),
        ("crlf", "Hello\n\nthere", 5, 7, 4),
        ("chat", "Hi you", 2, 0, 0),
        ("told", "a", 6, 9, 8),
    ],
)
def test_streams_in_odd_pieces(framing: str, what: str, text: str, tokens: int, prompt: int, cached: int) -> None:
    with serving(in_odd_pieces) as url:
        samples = run(url, asking(f"/{framing}/{what}", 12), 3)
    assert [sample.request for sample in samples] == list(range(12))
    for sample in samples:
        assert (sample.status, sample.error, sample.text) == (200, "", text)
        assert (sample.tokens, sample.prompt_tokens, sample.cached_tokens) == (tokens, prompt, cached)
        times = [sample.started_s, *sample.chunks_s, sample.ended_s]
        assert times == sorted(times)
        assert sample.time_to_first_token_s == sample.chunks_s[0] - sample.started_s


BROKEN = OURS[:40] + b"\n\n" + event({"error": {"code": "engine_died"}}, "error")
FROM_CACHE = event({"text": "kept", "cached": True, "usage": {"completion_tokens": 1}}, "done")


@pytest.mark.parametrize(
    ("server", "status", "error", "tokens", "text"),
    [
        (of_json(200, {"text": "ok", "usage": {"prompt_tokens": 1, "completion_tokens": 3}}), 200, "", 3, "ok"),
        (of_json(200, {"choices": [{"message": {"content": "hi"}}]}), 200, "", 0, "hi"),
        (of_json(200, {"outputs": {"x": [1, 2]}}), 200, "", 0, ""),
        (of_json(429, {"error": {"code": "queue_full"}}, "retry-after: 7"), 429, "queue_full", 0, ""),
        (of_json(404, {"error": "no such path"}), 404, "error", 0, ""),
        (answering(502, "text/html", b"<h1>Bad gateway"), 502, "http_502", 0, ""),
        (answering(200, "text/event-stream", OURS[:60]), 200, "incomplete", 1, "Hel"),
        (answering(200, "text/event-stream", BROKEN), 200, "engine_died", 0, ""),
        (answering(200, "text/event-stream", FROM_CACHE), 200, "", 1, "kept"),
    ],
)
def test_whole_answers_and_errors(server: Answering, status: int, error: str, tokens: int, text: str) -> None:
    with serving(server) as url:
        samples = run(url, asking("/", 4), 2)
    assert [(s.status, s.error, s.tokens, s.text) for s in samples] == [(status, error, tokens, text)] * 4
    assert {s.retry_after_s for s in samples} == {7.0 if status == 429 else None}
    assert {s.from_cache for s in samples} == {text == "kept"}


def test_as_many_at_once_as_asked_and_no_more() -> None:
    at_once, most = 0, 0

    async def counted(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return await of_json(200, {})(path, body, writer)

    with serving(counted) as url:
        samples = run(url, asking("/", 20), 5)
    assert (len(samples), most) == (20, 5)


def test_a_connection_is_kept() -> None:
    connections = set()

    async def noted(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        connections.add(writer.get_extra_info("peername"))
        return await of_json(200, {})(path, body, writer)

    with serving(noted) as url:
        run(url, asking("/", 30), 2)
    assert len(connections) == 2


def test_a_connection_that_the_service_gave_up_is_made_anew() -> None:
    async def keeps_nothing(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        await of_json(200, {"text": "ok"}, "connection: keep-alive")(path, body, writer)
        return False

    with serving(keeps_nothing) as url:
        samples = run(url, asking("/", 10), 2)
    assert [(sample.status, sample.error) for sample in samples] == [(200, "")] * 10


def test_a_big_body_is_sent_whole() -> None:
    async def measured(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        return await of_json(200, {"text": str(len(body))})(path, body, writer)

    with serving(measured) as url:
        samples = run(url, [Request("/", b"x" * 5_000_000)] * 3, 3)
    assert [sample.text for sample in samples] == ["5000000"] * 3


def test_a_refusal_before_the_body_was_read_is_an_answer() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(head(413, "application/json", "content-length: 2", "connection: close") + b"{}")
        await writer.drain()
        await asyncio.sleep(10)

    with listening(refuse) as url:
        samples = run(url, [Request("/", b"x" * 20_000_000)], 1)
    assert [(sample.status, sample.error) for sample in samples] == [(413, "http_413")]


def test_who_is_refused_rests_as_long_as_told() -> None:
    count = itertools.count()

    async def refuse_first(path: str, body: bytes, writer: asyncio.StreamWriter) -> bool:
        server = of_json(429, {}, "retry-after: 1") if next(count) == 0 else of_json(200, {})
        return await server(path, body, writer)

    with serving(refuse_first) as url:
        first, second = run(url, asking("/", 2), 1, heed_retry_after=True)
    assert (first.status, second.status) == (429, 200)
    assert second.started_s - first.ended_s >= 1


def test_nothing_is_begun_after_the_time_is_over() -> None:
    with serving(of_json(200, {})) as url:
        samples = run(url, itertools.cycle(asking("/", 3)), 2, duration_s=0.2)
    assert samples
    assert max(sample.started_s for sample in samples) <= 0.2


def test_a_service_that_says_nothing() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with listening(silent) as url:
        samples = run(url, asking("/", 4), 2, timeout_s=0.1)
    assert [(sample.status, sample.error) for sample in samples] == [(0, "timeout")] * 4


def test_a_service_that_goes_in_the_middle() -> None:
    async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(head(200, "text/event-stream", "transfer-encoding: chunked") + b"5\r\ndata:")
        await writer.drain()
        writer.transport.abort()

    with listening(breaks_off) as url:
        samples = run(url, asking("/", 3), 1)
    assert [(sample.status, sample.error) for sample in samples] == [(200, "connection_lost")] * 3


def test_something_that_is_not_http() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")
        await reader.read()

    with listening(greet) as url:
        samples = run(url, asking("/", 2), 1)
    assert [(sample.status, sample.error) for sample in samples] == [(0, "not_http")] * 2


def test_nobody_listens() -> None:
    samples = run(f"http://127.0.0.1:{free_port()}", itertools.cycle(asking("/", 1)), 3)
    assert [(sample.status, sample.error) for sample in samples] == [(0, "unreachable")] * 3


@pytest.mark.parametrize("url", ["", "localhost:3000", "ftp://x", "http://", "http://x?y=1", "http://x:port"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        run(url, [], 1)


def test_what_has_ended_is_kept_when_the_run_is_left() -> None:
    class EnoughError(Exception):
        pass

    def stop(count: int) -> None:
        if count == 5:
            raise EnoughError

    with serving(of_json(200, {})) as url:
        load = Load(url, on_end=stop)
        with pytest.raises(EnoughError):
            load.run(asking("/", 100), 2)
    assert len(load.samples()) == 5


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(in_odd_pieces, context) as url:
        strangers = run(url, asking("/chunked/ours", 1), 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        samples = run(url, asking("/chunked/ours", 6), 2)
    assert [sample.error for sample in strangers] == ["unreachable"]
    assert [(sample.text, sample.error) for sample in samples] == [("Hello\n\nthere", "")] * 6


def test_it_runs_beside_a_loop_of_asyncio() -> None:
    """As in a notebook, or on a thread of a test."""
    found = []
    with serving(in_odd_pieces) as url:
        thread = threading.Thread(target=lambda: found.extend(run(url, asking("/length/chat", 2), 1)))
        thread.start()
        thread.join()
    assert [sample.text for sample in found] == ["Hi you"] * 2


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 2), (75, 3), (95, 4), (100, 4)])
def test_percentiles_are_values_that_were_there(percent: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], percent) == expected


def test_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
