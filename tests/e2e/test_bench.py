"""`mlspec bench` as a user runs it, with the tiny model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.test_commands import MLSPEC, project, run, serving, workers
from mlspec.serving import ask

pytestmark = pytest.mark.e2e

__all__ = ["project"]
LORA = ["bench", "specs/lora.yaml"]


def test_a_table_a_page_and_a_kept_file(project: Path) -> None:
    files = ["--save", "it.json", "--html", "it.html"]
    done = run(project, *LORA, "--concurrency", "1,2", "--requests", "4", *files)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("support-lora/linux on Linux, ")
    rows = re.findall(r"^ +([12]) +4 +[\d.,]+ +[\d.,]+ +[\d.,]+ / [\d.,]+ ", done.stdout, re.M)
    assert rows == ["1", "2"]
    assert re.search(r"held [\d.]+ MiB at its fullest; the plan counts [\d.]+ GiB", done.stdout)
    kept = json.loads((project / "it.json").read_text())
    for level in kept["levels"]:
        assert (level["requests"], level["answered"], level["errors"]) == (4, 4, {})
        assert level["tokens"] > 4
        assert 0 < level["first_token_s"]["p50"] <= level["latency_s"]["p50"]
        assert level["service"]["peak_memory_bytes"] > 1_000_000
        assert level["service"]["cache_hits"] == 0
    assert "<polyline" in (project / "it.html").read_text()
    assert not workers(project)


def test_the_same_again_comes_from_the_response_cache(project: Path) -> None:
    done = run(project, *LORA, "--concurrency", "1", "--requests", "30", "--repeat", "--output-format", "json")
    assert done.returncode == 0, done.stderr
    (level,) = json.loads(done.stdout)["levels"]
    assert (level["answered"], level["service"]["cache_hits"]) == (30, 30 - 8)


@pytest.mark.parametrize("endpoint", ["stream", "predict", "chat", "completions"])
def test_each_endpoint_of_a_running_service(project: Path, endpoint: str) -> None:
    with serving(project) as (_, url):
        few = ["--concurrency", "2", "--requests", "4", "--adapters", "mix", "--max-tokens", "6"]
        where = ["--url", url, "--target", "linux", "--endpoint", endpoint]
        done = run(project, *LORA, *where, *few, "--output-format", "json")
    assert done.returncode == 0, done.stderr
    (level,) = json.loads(done.stdout)["levels"]
    assert (level["answered"], level["errors"]) == (4, {})
    assert 4 <= level["tokens"] <= 24
    assert (level["first_token_s"] is None) == (endpoint == "predict")


def test_tensors(project: Path) -> None:
    done = run(project, "bench", "specs/iris.yaml", "--concurrency", "1,2", "--requests", "6")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^ +([12]) +6 +[\d.,]+ +[\d.,]+ / [\d.,]+$", done.stdout, re.M) == ["1", "2"]
    assert not workers(project)


@contextmanager
def under_load(project: Path) -> Iterator[tuple[subprocess.Popen[str], Callable[[], list[int]]]]:
    """A load that doesn't end by itself, once requests are answered; the processes of its service."""
    command = [*MLSPEC, *LORA, "--concurrency", "2", "--duration", "300"]
    with subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            while _answered(project) < 10:
                assert process.poll() is None
                time.sleep(0.1)
            yield process, lambda: _served_by(process.pid)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(60)


def _answered(project: Path) -> float:
    ports = [re.search(r"--port (\d+)", command) for command in workers(project)]
    urls = {f"http://127.0.0.1:{port[1]}" for port in ports if port}
    texts = [answer.body for url in urls if (answer := ask(f"{url}/metrics")) and isinstance(answer.body, str)]
    found = re.findall(r'^mlspec_requests_total\{endpoint="stream",status="200"\} (\S+)$', "\n".join(texts), re.M)
    return sum(map(float, found))


def _served_by(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_is_shown_when_it_is_stopped(project: Path, number: int) -> None:
    with under_load(project) as (process, _):
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"^ +2 +(\d+ of )?\d+\* +[\d.,]+ ", out, re.M)
    assert "* stopped before its end\n" in out
    assert "Traceback" not in err
    assert not workers(project)


def test_a_service_that_ends_under_load(project: Path) -> None:
    with under_load(project) as (process, served_by):
        for pid in served_by():
            os.killpg(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "unreachable" in out
    assert "error[service-ended]: the service ended under load, exit code -9" in err
    assert not workers(project)


def test_a_service_that_does_not_start(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_CONFIG", str(project / "nowhere.yaml"))
    done = run(project, *LORA)
    assert done.returncode == 3
    assert "error[service-ended]" in done.stderr
    assert "nowhere.yaml" in done.stderr
    assert done.stdout == ""
