"""The same rows on Ray: same files, same refusals, and what one engine has begun the other one ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batch.bundles import bundle, computed, done, job, numbers, records
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.job import dump_job
from mlspec_runtime.batch.on_ray import _ranges, _rows_of_a_part
from mlspec_runtime.batch.parts import parts_in

RUN = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from mlspec_runtime.batch.events import Events
from mlspec_runtime.batch.job import read_job
from mlspec_runtime.batch.running import run
os.chdir(sys.argv[2])
print(run(read_job(sys.argv[1]), Path(sys.argv[2]), Events(None)))
"""


def test_ranges_are_those_that_no_part_has() -> None:
    missing = iter([(0, 5), (20, None)])
    assert list(_ranges(missing, 31, 4)) == [(0, 4), (4, 5), (20, 24), (24, 28), (28, 31)]


def test_every_actor_has_several_parts(tmp_path: Path) -> None:
    asked = job(tmp_path, "in.jsonl", rows_per_part=1000)
    assert _rows_of_a_part(asked, 160, 2) == 10
    assert _rows_of_a_part(asked, 1_000_000, 2) == 1000
    assert _rows_of_a_part(asked, 0, 2) == 1


def test_without_ray_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    numbers(tmp_path / "in.jsonl", [1])
    with pytest.raises(BatchError, match="needs ray") as refused:
        done(job(tmp_path, "in.jsonl", engine="ray"), bundle(tmp_path / "b"))
    assert refused.value.kind == "installed"


@pytest.mark.soak
def test_what_was_begun_here_ends_on_ray(tmp_path: Path) -> None:
    """Needs root and `unshare`, for a network of its own, and a Python with ray, by MLSPEC_RAY_PYTHON."""
    python = os.environ.get("MLSPEC_RAY_PYTHON")
    if not python or not shutil.which("unshare"):
        pytest.skip("MLSPEC_RAY_PYTHON names no Python with ray")
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", [*range(100, 300), 7, *range(300, 500)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlspec_runtime.batch.work.Work.join", lambda work, sink: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            done(job(tmp_path, "in.jsonl", rows_per_part=100, batch_rows=10), place)
    asked = job(tmp_path, "in.jsonl", engine="ray", rows_per_part=40, batch_rows=10)
    parts = parts_in(asked.work)
    assert [part.end for part in parts] == [100, 200, 300, 400, 401]
    parts[1].path.unlink()
    before = len(computed(place))
    command = [python, "-c", RUN, dump_job(asked), str(place), str(Path(__file__).parents[1])]
    shell = ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *command]
    ran = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=300)
    assert "Summary(rows=401, failed=1)" in ran.stdout, ran.stderr
    assert [row["row"] for row in records(asked.output)] == [row for row in range(401) if row != 200]
    assert [row["row"] for row in records(asked.failed)] == [200]
    assert sorted(computed(place)[before:]) == list(range(200, 300))
