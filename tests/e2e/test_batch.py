"""`mlspec predict` with a language model: requests of all kinds in a file, killed on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlspec.descendants import descendants
from projects import example

pytestmark = pytest.mark.e2e

MLSPEC = [sys.executable, "-m", "mlspec", "predict", "specs/lora.yaml"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return example(tmp_path / "a project")


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MLSPEC, *arguments], cwd=project, capture_output=True, text=True, check=False, timeout=300)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prompts(project: Path, count: int) -> None:
    rows: list[dict[str, Any]] = [{"prompt": f"Where is my order {n}?", "max_tokens": 4 + n % 9} for n in range(count)]
    rows[3] = {"messages": [{"role": "user", "content": "Where is my order?", "name": None}], "max_tokens": 4}
    rows[5] = {"prompt": "Hello", "adapter": "base", "max_tokens": 3}
    rows[7] = {"prompt": "Hello", "adapter": "nobody"}
    rows[9] = {"prompt": ""}
    (project / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def killed(project: Path, arguments: Sequence[str], parts: int) -> None:
    """Run until so many parts are done, then kill the command and all of its processes."""
    with subprocess.Popen([*MLSPEC, *arguments], cwd=project, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while len(list(project.glob("*.parts/part-*"))) < parts:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        for one in (process.pid, *descendants(process.pid)):
            os.kill(one, signal.SIGKILL)


def test_every_row_has_its_own_answer(project: Path) -> None:
    prompts(project, 40)
    done = run(project, "--input", "in.jsonl", "--output", "out.jsonl")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "38 rows in out.jsonl, 2 failed")
    rows = records(project / "out.jsonl")
    assert [row["row"] for row in rows] == [n for n in range(40) if n not in (7, 9)]
    by_row = {row["row"]: row for row in rows}
    assert by_row[3]["completion_tokens"] == 4
    assert by_row[5]["adapter"] == "base"
    for n in (0, 1, 20, 39):
        assert by_row[n]["text"]
        assert by_row[n]["finish_reason"] in ("stop", "length")
        assert by_row[n]["prompt_tokens"] > 0
        assert by_row[n]["completion_tokens"] <= 4 + n % 9
    failed = {row["row"]: row["error"] for row in records(project / "out.jsonl.failed.jsonl")}
    assert failed[7]["field"] == "adapter"
    assert failed[9]["code"] == "invalid_request"


def test_killed_and_gone_on_with_it_gives_the_same(project: Path) -> None:
    prompts(project, 400)
    arguments = ["--input", "in.jsonl", "--output", "killed.jsonl", "--rows-per-part", "20"]
    killed(project, arguments, parts=1)
    assert run(project, *arguments).returncode == 1
    assert run(project, "--input", "in.jsonl", "--output", "whole.jsonl").returncode == 1
    assert (project / "killed.jsonl").read_text() == (project / "whole.jsonl").read_text()
    assert len(records(project / "whole.jsonl")) == 398


def test_csv_and_other_names_of_columns(project: Path) -> None:
    with (project / "in.csv").open("w", newline="") as file:
        messages = json.dumps([{"role": "user", "content": 'Where is "it"?'}])
        csv.writer(file).writerows(
            [
                ["question", "id", "max_tokens", "stop", "chat"],
                ["Hello", "a", "3", '["x"]', ""],
                ["", "b", "", "", messages],
            ]
        )
    columns = ["--column", "prompt=question", "--column", "messages=chat", "--keep", "id"]
    done = run(project, "--input", "in.csv", "--output", "out.csv", *columns)
    assert (done.returncode, done.stderr) == (0, "")
    with (project / "out.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["completion_tokens"], first["tool_calls"]) == ("a", "3", "[]")
    assert second["text"]


def test_a_folder_of_texts_are_prompts(project: Path) -> None:
    (project / "texts").mkdir()
    for name in "ba":
        (project / f"texts/{name}.txt").write_text(f"Where is my order {name}?")
    assert run(project, "--input", "texts", "--output", "out.jsonl").returncode == 0
    assert [row["path"] for row in records(project / "out.jsonl")] == ["a.txt", "b.txt"]
