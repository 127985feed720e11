"""A million rows, or five hundred prompts, through `mlspec predict`, killed five times: every row once, memory flat."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from e2e.test_batch import killed, prompts, records, run
from mlspec.descendants import descendants
from projects import example

pytestmark = pytest.mark.soak

ROWS = 1_000_000
KILLS = 5
MOST_GROWTH_BYTES = 150 << 20
"""Of the process that computes, between two hundred thousand rows and the end."""


def peak_bytes(pid: int) -> int:
    """The most memory that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def rows_done(project: Path) -> int:
    names = [path.stem.split("-") for path in project.glob("out.*.parts/part-*")]
    return sum(int(end) - int(first) for _, first, end, _ in names)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_million_rows_killed_five_times(tmp_path: Path, kind: str) -> None:
    project = example(tmp_path / "project")
    values = np.random.default_rng(1).random((ROWS, 4), dtype=np.float32)
    values = (values * 8).round(3)
    _write(project, values, kind)
    columns = ["--column", "flowers=a,b,c,d", "--keep", "id", "--rows-per-part", "20000"]
    command = [sys.executable, "-m", "mlspec", "predict", "specs/iris.yaml", "--input", f"in.{kind}"]
    command += ["--output", f"out.{kind}", *columns]
    chance, peaks = random.Random(5), []
    for kill in range(KILLS):
        with subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            while rows_done(project) < (kill + 1) * 150_000 and process.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.random() / 5)
            assert process.poll() is None
            children = descendants(process.pid)
            peaks += [peak_bytes(child) for child in children[:1]]
            for one in (process.pid, *children):
                os.kill(one, signal.SIGKILL)
    before = rows_done(project)
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{ROWS:,} rows in out.{kind}, 0 failed\n")
    assert before > 500_000
    assert max(peaks) - min(peaks) < MOST_GROWTH_BYTES
    ids, species = _read(project, kind)
    assert (ids == np.arange(ROWS)).all()
    assert (species == _expected(project, values)).all()


def _write(project: Path, values: np.ndarray, kind: str) -> None:
    if kind == "csv":
        with (project / "in.csv").open("w") as file:
            file.write("id,a,b,c,d\n")
            file.writelines(f"{n},{a:.3f},{b:.3f},{c:.3f},{d:.3f}\n" for n, (a, b, c, d) in enumerate(values))
        return
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {name: values[:, at] for at, name in enumerate("abcd")}
    pq.write_table(pa.table({"id": np.arange(ROWS), **columns}), project / "in.parquet", row_group_size=100_000)


def _read(project: Path, kind: str) -> tuple[np.ndarray, np.ndarray]:
    if kind == "csv":
        read = np.loadtxt(project / "out.csv", delimiter=",", skiprows=1, usecols=(0, 1))
        return read[:, 0], read[:, 1]
    table = pytest.importorskip("pyarrow.parquet").read_table(project / "out.parquet")
    return table.column("id").to_numpy(), table.column("species").to_numpy()


def _expected(project: Path, values: np.ndarray) -> np.ndarray:
    sys.path.insert(0, str(project / "specs/models/iris"))
    from model import Iris  # type: ignore[import-not-found]

    iris = Iris()
    iris.load(project / "specs/models/iris/artifacts")
    species: np.ndarray = iris.predict({"flowers": values})["species"]
    return species


def test_five_hundred_prompts_killed_five_times(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    prompts(project, 500)
    arguments = ["--input", "in.jsonl", "--output", "killed.jsonl", "--rows-per-part", "10"]
    for kill in range(KILLS):
        killed(project, arguments, parts=8 * (kill + 1))
    assert run(project, *arguments).returncode == 1
    assert run(project, "--input", "in.jsonl", "--output", "whole.jsonl").returncode == 1
    assert (project / "killed.jsonl").read_text() == (project / "whole.jsonl").read_text()
    assert [row["row"] for row in records(project / "whole.jsonl")] == [n for n in range(500) if n not in (7, 9)]
    failed = records(project / "killed.jsonl.failed.jsonl")
    assert [row["row"] for row in failed] == [7, 9]
