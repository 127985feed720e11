"""docs/api.md shows what is so: each of its calls is made, and gives the answer that stands below it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import served
from projects import example

pytestmark = pytest.mark.e2e

DOCUMENT = Path(__file__).parents[2] / "docs/api.md"
SHOWN_URL = "http://127.0.0.1:3000"
EXAMPLE = re.compile(r"^```sh\n(curl .*?)^```\n\n^```(?:json|text)\n(.*?)^```$", re.M | re.S)
VARYING = {"id", "created", "system_fingerprint", "request_id", "timings"}
EXAMPLES: list[tuple[str, str]] = EXAMPLE.findall(DOCUMENT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    project = example(tmp_path_factory.mktemp("documents") / "project")
    command = [sys.executable, "-m", "mlspec", "build", "specs/lora.yaml", "--target", "linux"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    serve = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with served(serve, project / done.stdout.strip(), project / "served.log") as running:
        yield running


def answer_of(command: str, url: str) -> str:
    shell = ["bash", "-c", command.replace(SHOWN_URL, url)]
    return subprocess.run(shell, capture_output=True, text=True, check=True).stdout


def steady(value: Any) -> Any:
    """A JSON value without what is another one each time."""
    if isinstance(value, dict):
        return {key: "…" if key in VARYING else steady(part) for key, part in value.items()}
    return [steady(part) for part in value] if isinstance(value, list) else value


def parts_of(text: str) -> list[Any]:
    """An answer, or the lines of a stream."""
    if text.lstrip().startswith("{"):
        return [steady(json.loads(text))]
    lines = [line for line in text.splitlines() if line]
    return [steady(json.loads(line[6:])) if line.startswith("data: {") else line for line in lines]


def test_the_document_has_examples() -> None:
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_answers_of_the_document_are_those_that_come(url: str, command: str, shown: str) -> None:
    assert parts_of(answer_of(command, url)) == parts_of(shown)


def test_names_of_models_are_shown_as_they_are(url: str) -> None:
    """`id` varies in answers; in this list it doesn't."""
    shown = next(json.loads(answer) for command, answer in EXAMPLES if command.strip().endswith("/v1/models"))
    listed = json.loads(answer_of(f"curl -s {SHOWN_URL}/v1/models", url))
    assert [model["id"] for model in listed["data"]] == [model["id"] for model in shown["data"]]
