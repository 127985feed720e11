"""The real model's bundle: served, packed as a Bento, and run where mlspec isn't installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import served
from mlspec.serving import ask
from models.blas import environment

pytestmark = pytest.mark.e2e

QUESTIONS = ["Where is my order?", "What is the capital of France?", "My lamp is late.", "Name a colour.", "Hello!"]

# What mlx_lm itself answers, in a process of its own: {question: [token, …]} for 8 tokens each, greedy.
ORACLE = """
import json, sys
from mlx_lm import load, stream_generate
model, tokenizer = load(sys.argv[1], adapter_path=sys.argv[2] or None)
found = {}
for question in json.loads(sys.argv[3]):
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    answers = list(stream_generate(model, tokenizer, prompt, max_tokens=8))
    tokens = [a.token for a in answers if a.token not in tokenizer.eos_token_ids]
    found[question] = [tokens, "".join(a.text for a in answers)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def url(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with served(command, bundle, tmp_path_factory.mktemp("log") / "served.log") as running:
        yield running


def oracle(model: Path, adapter: Path | None) -> dict[str, Any]:
    command = [sys.executable, "-c", ORACLE, str(model), str(adapter or ""), json.dumps(QUESTIONS)]
    done = subprocess.run(command, env={**environment(), "HF_HUB_OFFLINE": "1"}, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def predict(url: str, **body: Any) -> dict[str, Any]:
    answer = ask(f"{url}/predict", body, timeout_s=300)
    assert answer is not None
    assert answer.status == 200, answer.body
    return dict(answer.body)


@pytest.mark.parametrize("adapter", ["support", "base"])
def test_greedy_answers_equal_mlx_lms_token_by_token(url: str, real_model: tuple[Path, Path], adapter: str) -> None:
    base, trained = real_model
    expected = oracle(base, trained if adapter == "support" else None)
    for question in QUESTIONS:
        answer = predict(url, prompt=question, max_tokens=8, adapter=adapter)
        assert [answer["tokens"], answer["text"]] == expected[question], question


def test_fifty_requests_at_once_all_answer_as_alone(url: str) -> None:
    alone = {question: predict(url, prompt=question, max_tokens=8)["tokens"] for question in QUESTIONS}
    with ThreadPoolExecutor(50) as pool:
        bodies = [QUESTIONS[n % len(QUESTIONS)] for n in range(50)]
        answers = list(pool.map(lambda question: predict(url, prompt=question, max_tokens=8), bodies))
    assert len(answers) == 50
    for question, answer in zip(bodies, answers, strict=True):
        assert answer["tokens"] == alone[question], question


def test_health_metrics_and_documents(url: str) -> None:
    predict(url, prompt="Hello!", max_tokens=4)
    health, metrics, documents = ask(f"{url}/health"), ask(f"{url}/metrics"), ask(f"{url}/docs.json")
    assert health is not None
    assert health.status == 200
    assert metrics is not None
    assert "mlspec_" in metrics.body
    assert documents is not None
    assert {"/predict", "/predict/stream", "/health"} <= set(documents.body["paths"])


def test_a_bento_of_it_serves_too(bundle: Path, real_model: tuple[Path, Path], tmp_path: Path) -> None:
    """`bentoml build` in the bundle; the Bento finds the models by MLSPEC_MODELS, as it holds none."""
    home = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "true"}
    build = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
    done = subprocess.run(build, cwd=bundle, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tag = done.stdout.strip().splitlines()[-1].removeprefix("__tag__:")
    stored = tmp_path / "home/bentos" / tag.replace(":", "/")
    assert not list(stored.rglob("*.safetensors"))
    models = tmp_path / "models"
    (models / "adapters").mkdir(parents=True)
    (models / "base").symlink_to(real_model[0])
    (models / "adapters/support").symlink_to(real_model[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", home["BENTOML_HOME"])
        patch.setenv("MLSPEC_MODELS", str(models))
        command = [sys.executable, "-m", "bentoml", "serve", tag, "--host", "127.0.0.1"]
        with served(command, tmp_path, tmp_path / "served.log") as url:
            assert predict(url, prompt="Hello!", max_tokens=4)["tokens"]


def test_the_bundle_runs_without_mlspec(bundle: Path, tmp_path: Path) -> None:
    """In an environment that has the bundle's requirements and nothing of mlspec's."""
    made = tmp_path / "venv"
    venv.create(made, with_pip=True)
    python = str(made / "bin/python")
    install = [python, "-m", "pip", "install", "-q", "-r", str(bundle / "requirements.txt")]
    subprocess.run(install, check=True)
    find = [python, "-c", "import importlib.util as u; print(u.find_spec('mlspec'))"]
    assert subprocess.run(find, capture_output=True, text=True, check=True, cwd=tmp_path).stdout == "None\n"
    command = [python, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with served(command, bundle, tmp_path / "served.log") as url:
        assert predict(url, prompt="Hello!", max_tokens=4)["tokens"]


def test_unknown_paths_do_not_grow_the_metrics(url: str) -> None:
    """Whoever asks for paths that aren't there adds no series, neither to ours nor to BentoML's own."""

    def series() -> int:
        answer = ask(f"{url}/metrics")
        assert answer is not None
        return len(answer.body.splitlines())

    ask(f"{url}/nothing")
    before = series()
    for number in range(50):
        answer = ask(f"{url}/nothing/{number}")
        assert answer is not None
        assert answer.status == 404
    assert series() == before
