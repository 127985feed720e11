"""Answers from the cache of a real service: the same text, at once, in every form, also after a restart."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import served
from mlspec.serving import ask

pytestmark = pytest.mark.e2e

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: smol, project: cache}
model:
  runner: mlx-lm
  base: {root: models, path: BASE}
service:
  response_cache: {store: file, entries: 20}
targets: [{name: here, platform: linux}]
"""
QUESTION = {"prompt": "What is the capital of France?", "max_tokens": 24}
CHAT = {
    "model": "base",
    "messages": [{"role": "user", "content": "Name a colour of the sky."}],
    "max_tokens": 16,
    "temperature": 0,
}


@pytest.fixture(scope="module")
def bundle(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = real_model[0]
    project = tmp_path_factory.mktemp("cache")
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    (project / "smol.yaml").write_text(SPEC.replace("BASE", base.name))
    command = [sys.executable, "-m", "mlspec", "build", "smol.yaml", "--root", f"models={base.parent}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return project / "build/cache/smol/here"


@contextmanager
def service(bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MLSPEC_CACHE_DIR", str(folder / "cache"))
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with served(command, bundle, folder / "log") as url:
        yield url


def predict(url: str, **changes: Any) -> dict[str, Any]:
    answer = ask(f"{url}/predict", {**QUESTION, **changes}, timeout_s=120)
    assert answer is not None
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.body
    return body


def events(url: str, path: str, body: dict[str, Any]) -> list[tuple[str, str]]:
    """The events of a stream: name and data."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        blocks = response.read().decode().strip().split("\n\n")
    found = []
    for block in blocks:
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((lines.get("event", ""), lines["data"]))
    return found


def streamed(url: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text of a stream's pieces, and its whole answer."""
    *pieces, (name, done) = events(url, "/predict/stream", body)
    assert (name, {name for name, _ in pieces}) == ("done", {"token"})
    answer: dict[str, Any] = json.loads(done)
    return "".join(json.loads(data)["text"] for _, data in pieces), answer


def chatted(url: str) -> tuple[str, str]:
    """The content and the end of a streamed chat."""
    chunks = [json.loads(data) for _, data in events(url, "/v1/chat/completions", {**CHAT, "stream": True})[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices), choices[-1]["finish_reason"]


def results(url: str) -> dict[str, float]:
    """What the cache did with requests, but what it never did."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    name = "mlspec_response_cache_requests_total{result="
    counts = {line.split('"')[1]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)}
    return {result: count for result, count in counts.items() if count}


def test_answers_come_again(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with service(bundle, tmp_path, monkeypatch) as url:
        first, second = predict(url), predict(url)
        assert (first["cached"], second["cached"]) == (False, True)
        for key in ("text", "tokens", "finish_reason", "adapter", "usage"):
            assert second[key] == first[key]
        assert first["request_id"] != second["request_id"]
        assert second["timings"]["total_s"] < first["timings"]["total_s"]
        text, done = streamed(url, QUESTION)
        assert (text, done["text"], done["cached"]) == (first["text"], first["text"], True)
        assert results(url) == {"miss": 1.0, "hit": 2.0}

        drawn = [predict(url, temperature=1.5)["cached"] for _ in range(2)]
        seeded = [predict(url, temperature=1.5, seed=7) for _ in range(2)]
        assert (drawn, [answer["cached"] for answer in seeded]) == ([False, False], [False, True])
        assert seeded[0]["tokens"] == seeded[1]["tokens"]

        chats = [chatted(url) for _ in range(2)]
        assert chats[0] == chats[1]
        assert chats[0][0]
        assert results(url) == {"miss": 3.0, "hit": 4.0}
    (folder,) = (tmp_path / "cache/responses").iterdir()
    assert (folder.name, folder.stat().st_mode & 0o777) == ("cache.smol.here", 0o700)

    with service(bundle, tmp_path, monkeypatch) as url:
        assert predict(url)["text"] == first["text"]
        assert predict(url)["cached"]
        assert chatted(url) == chats[0]
        assert results(url) == {"hit": 3.0}
