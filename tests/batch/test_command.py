"""`mlspec predict` as a user runs it: the whole way from a spec to an output, interrupted and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.bundles import numbers, records
from mlspec.descendants import descendants

MLSPEC = [sys.executable, "-m", "mlspec"]
SLOW = """
import os, time
import numpy as np

class Slow:
    def predict(self, inputs):
        time.sleep(len(inputs["x"]) * float(os.environ.get("ROW_S", 0)))
        if (inputs["x"] < 0).any():
            raise ValueError("below zero")
        return {"y": inputs["x"] + 1}
"""
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: slow, project: tests}
model:
  runner: python
  module: slow.py
  class: Slow
  inputs: [{name: x, dtype: float32, shape: [batch]}]
  outputs: [{name: "y", dtype: float32, shape: [batch]}]
targets: [{name: mac, platform: macos}, {name: linux, platform: linux}]
"""
PREDICT = ["predict", "slow.yaml", "--input", "in.jsonl", "--output", "out.jsonl", "--batch-rows", "5"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project in a folder with an odd name."""
    folder = tmp_path / "ä b'c$"
    folder.mkdir()
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    (folder / "slow.yaml").write_text(SPEC)
    (folder / "slow.py").write_text(SLOW)
    return folder


def run(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MLSPEC, *arguments], cwd=project, capture_output=True, text=True, check=False, timeout=120)


def started(project: Path, *more: str) -> subprocess.Popen[str]:
    """A run that has one part by now, at least, and that takes long."""
    command, slow = [*MLSPEC, *PREDICT, *more], {**os.environ, "ROW_S": "0.05"}
    process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True, env=slow)
    wait_for(lambda: parts(project) or process.poll() is not None)
    assert process.poll() is None
    return process


def parts(project: Path) -> list[str]:
    return sorted(path.name for path in project.glob("out.jsonl.parts/part-*"))


def wait_for(come: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_done(project: Path, count: int) -> None:
    assert [(row["row"], row["y"]) for row in records(project / "out.jsonl")] == [(n, n + 1.0) for n in range(count)]
    assert not (project / "out.jsonl.parts").exists()


def test_all_rows_or_an_exit_code_that_says_no(project: Path) -> None:
    numbers(project / "in.jsonl", [1, 2, -3, "x", 5])
    done = run(project, *PREDICT, "--keep", "id", "--failed", "bad.jsonl")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "3 rows in out.jsonl, 2 failed\nthe failed rows and why they failed: bad.jsonl\n"
    assert records(project / "out.jsonl") == [{"id": "n0", "y": 2.0}, {"id": "n1", "y": 3.0}, {"id": "n4", "y": 6.0}]
    errors = [row["error"] for row in records(project / "bad.jsonl")]
    assert [error["code"] for error in errors] == ["model_error", "invalid_request"]
    assert errors[0]["log"] == "ValueError: below zero"
    again = run(project, *PREDICT)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("error[file-exists]: ")
    assert "--restart" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done(project: Path, number: int) -> None:
    numbers(project / "in.jsonl", range(160))
    with started(project, "--rows-per-part", "20") as process:
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in stderr
    kept = parts(project)
    assert kept
    done = run(project, *PREDICT)
    assert done.returncode == 0
    assert "going on after" in done.stderr
    assert_done(project, 160)


def test_a_process_that_is_killed_is_told_of(project: Path) -> None:
    numbers(project / "in.jsonl", range(160))
    with started(project, "--rows-per-part", "20") as process:
        for child in descendants(process.pid):
            os.kill(child, signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "error[batch-failed]: the process that computes was killed by signal 9" in stderr
    assert run(project, *PREDICT).returncode == 0
    assert_done(project, 160)


def test_nothing_goes_on_when_the_command_is_killed_and_a_second_run_waits_for_no_first(project: Path) -> None:
    numbers(project / "in.jsonl", range(160))
    with started(project, "--rows-per-part", "20") as process:
        second = run(project, *PREDICT)
        assert second.returncode == 1
        assert second.stderr.startswith("error[batch-running]: another run is at work on ")
        children = descendants(process.pid)
        process.kill()
        process.communicate(timeout=60)
    wait_for(lambda: not any(Path(f"/proc/{child}/stat").exists() for child in children))
    assert run(project, *PREDICT).returncode == 0
    assert_done(project, 160)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--output", "out.xlsx"], 2, "error[usage]: 'out.xlsx' doesn't say how to write it"),
        (["--output", "in.jsonl"], 2, "would be a part of the input"),
        (["--failed", "out.jsonl"], 2, "the output and the file of failed rows are the same"),
        (["--output", "none/out.jsonl"], 3, "error[write-failed]: there is no folder"),
        (["--input", "other.jsonl"], 1, "error[batch-input]: the input"),
        (["--column", "z=x"], 1, "error[batch-columns]: --column z=…: the model has no input 'z'"),
        (["--keep", "a,a"], 2, "is no list of columns"),
        (["--column", "x"], 2, "is not INPUT=COLUMN"),
    ],
)
def test_what_cant_be_is_told(project: Path, arguments: list[str], code: int, told: str) -> None:
    numbers(project / "in.jsonl", [1])
    done = run(project, *PREDICT, *arguments)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert sorted(path.name for path in project.glob("*out*")) == []


def test_the_output_may_not_lie_in_the_input(project: Path) -> None:
    (project / "rows").mkdir()
    numbers(project / "rows/in.jsonl", [1])
    done = run(project, "predict", "slow.yaml", "--input", "rows", "--output", "rows/out.jsonl")
    assert (done.returncode, "would be a part of the input" in done.stderr) == (2, True)


def test_what_a_folder_refuses_is_told(project: Path) -> None:
    numbers(project / "in.jsonl", [1])
    assert run(project, "predict", "--help").stdout.count("130 interrupted") == 1
    missing = run(project, *PREDICT[:5], "none/x.csv")
    assert "there is no folder" in missing.stderr
    if Path("/proc/self").exists():
        refused = run(project, *PREDICT[:5], "/proc/x.csv")
        assert refused.returncode == 3
        assert "nothing can be written in /proc" in refused.stderr
