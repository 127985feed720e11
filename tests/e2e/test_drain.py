"""SIGTERM under load: what was accepted has its answer, who comes later is refused, and there is a bound."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from e2e.operating import BENTOML, Operated, of_tests, operated, tiny_bundle, until
from projects import example

pytestmark = pytest.mark.e2e

MLSPEC = [sys.executable, "-m", "mlspec", "serve", "specs/lora.yaml", "--target", "linux"]
SLOW = {"text": "one two three four", "pause_s": 0.4}
CLIENTS = 6


def bounded(drain_s: float) -> Any:
    """The echo runner, one request after another, each as slow as it is asked to be."""
    change = of_tests("mortal_runner")

    def bound(runtime: dict[str, Any]) -> None:
        change(runtime)
        runtime["limits"]["drain_s"] = drain_s

    return bound


@contextmanager
def accepted(service: Operated, body: dict[str, Any]) -> Iterator[list[Future[httpx.Response]]]:
    """Requests that are in the service, every other one a stream."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        paths = ["/predict", "/predict/stream"] * (CLIENTS // 2)
        asked = [pool.submit(service.client.post, path, json=body) for path in paths]
        until(lambda: _inside(service) == CLIENTS, 60, service.log)
        yield asked


def _inside(service: Operated) -> int:
    health = service.client.get("/health").json()
    return int(health["running"] + health["waiting"])


def refusal(service: Operated, body: dict[str, Any]) -> None:
    """What new requests get, by connections of their own."""
    url = str(service.client.base_url)
    until(lambda: service.status("/readyz") == 503, 5, service.log)
    answer = httpx.post(f"{url}/predict", json=body, timeout=20, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert answer.headers["Retry-After"]
    assert httpx.get(f"{url}/livez", timeout=20, trust_env=False).status_code == 200


def test_no_accepted_request_is_lost(tmp_path: Path) -> None:
    with operated(BENTOML, tiny_bundle(tmp_path, bounded(60)), tmp_path / "log") as service:
        with accepted(service, SLOW) as asked:
            service.terminate()
            refusal(service, SLOW)
            answers = [request.result() for request in asked]
        assert [answer.status_code for answer in answers] == [200] * CLIENTS
        assert all('"words":4' in answer.text for answer in answers)
        assert service.process.wait(60) == 0


def test_past_the_bound_they_have_an_error_and_the_process_ends(tmp_path: Path) -> None:
    with operated(BENTOML, tiny_bundle(tmp_path, bounded(2)), tmp_path / "log") as service:
        with accepted(service, {**SLOW, "pause_s": 5.0}) as asked:
            service.terminate()
            refusal(service, SLOW)
            answers = [request.result() for request in asked]
        for answer in answers[::2]:
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        for answer in answers[1::2]:
            assert answer.status_code in (200, 503)
            assert '"shutting_down"' in answer.text
        assert service.process.wait(60) == 0
        assert "are not done within 2 s: they fail" in service.log.read_text()


def test_a_client_that_reads_nothing_does_not_hold_the_process(tmp_path: Path) -> None:
    small = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
    words = " ".join(["w" * 60_000] * 12)
    with operated(BENTOML, tiny_bundle(tmp_path, bounded(1)), tmp_path / "log") as service:
        with httpx.Client(base_url=service.client.base_url, transport=small) as client:
            request = client.build_request("POST", "/predict/stream", json={"text": words, "times": 9})
            answer = client.send(request, stream=True)
            assert answer.status_code == 200
            service.terminate()
            assert service.process.wait(120) == 0
        log = service.log.read_text()
        assert "1 requests are not done within 1 s" in log
        assert "connections or threads that hang are given up" in log


def test_mlspec_serve_waits_too(tmp_path: Path) -> None:
    """The tiny model under clients that ask without a pause."""
    with operated(MLSPEC, example(tmp_path / "project"), tmp_path / "log") as service:
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(ask_on, str(service.client.base_url)) for _ in range(CLIENTS)]
            time.sleep(2)
            told_at = time.monotonic()
            service.terminate()
            answers = [answer for client in clients for answer in client.result()]
        assert service.process.wait(60) == 0
    before = [status for began_at, status in answers if began_at < told_at]
    assert before.count(200) > CLIENTS
    assert set(before) <= {200, 503}
    # After the end nobody listens.
    assert {status for _, status in answers} <= {200, 503, None}


def test_a_killed_mlspec_serve_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGKILL leaves it no time for a word: the service sees that it has gone, and drains."""
    with operated(MLSPEC, example(tmp_path / "project"), tmp_path / "log") as service:
        started = psutil.Process(service.process.pid).children(recursive=True)
        assert service.worker in started
        with ThreadPoolExecutor(1) as pool:
            body = {"prompt": "Tick forever.", "temperature": 1.0, "max_tokens": 48}
            asked = pool.submit(service.client.post, "/predict", json=body)
            until(lambda: _inside(service) == 1 or asked.done(), 60, service.log)
            service.process.kill()
            assert asked.result().status_code == 200
        until(lambda: not any(process.is_running() for process in started), 60, service.log)
        assert "what started this service has gone; ending" in service.log.read_text()


def ask_on(url: str) -> list[tuple[float, int | None]]:
    """Ask until the service doesn't answer as it should: when each request began, and its status."""
    seen: list[tuple[float, int | None]] = []
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        while not seen or seen[-1][1] == 200:
            began_at = time.monotonic()
            try:
                answer = client.post("/predict", json={"prompt": "Tick forever.", "temperature": 1.0})
                seen.append((began_at, answer.status_code))
            except httpx.TransportError:
                seen.append((began_at, None))
    return seen


def test_an_idle_service_ends_at_once(tmp_path: Path) -> None:
    with operated(BENTOML, tiny_bundle(tmp_path, bounded(600)), tmp_path / "log") as service:
        began_at = time.monotonic()
        service.terminate()
        assert service.process.wait(60) == 0
        assert time.monotonic() - began_at < 60
