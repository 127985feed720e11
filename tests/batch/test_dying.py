"""Rows that end the process that computes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.bundles import numbers, records
from batch.test_command import PREDICT, SPEC, run
from mlspec_runtime.batch.dying import Suspects, UnderWay, died_at, suspects_in

DEADLY = """
import os

class Slow:
    def predict(self, inputs):
        if (inputs["x"] == 7).any():
            os._exit(9)
        return {"y": inputs["x"] + 1}
"""


def project(folder: Path, code: str) -> Path:
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    (folder / "slow.yaml").write_text(SPEC)
    (folder / "slow.py").write_text(code)
    return folder


def test_rows_that_end_the_process_are_named_and_then_left_out(tmp_path: Path) -> None:
    place = project(tmp_path, DEADLY)
    numbers(place / "in.jsonl", [*range(100, 112), 7, *range(112, 130)])
    first = run(place, *PREDICT)
    assert first.returncode == 3
    assert "ended by itself, exit code 9, at rows " in first.stderr
    assert "one by one" in first.stderr
    second = run(place, *PREDICT)
    assert second.returncode == 1, second.stderr
    assert second.stderr.count("ended at row 12: another one goes on") == 2
    assert [row["row"] for row in records(place / "out.jsonl")] == [row for row in range(31) if row != 12]
    (failed,) = records(place / "out.jsonl.failed.jsonl")
    assert (failed["row"], failed["input"]["x"], failed["error"]["code"]) == (12, 7, "process_died")
    assert not (place / "out.jsonl.parts").exists()


def test_a_process_that_ends_as_it_loads_blames_no_row(tmp_path: Path) -> None:
    place = project(tmp_path, DEADLY + "\n    def load(self, artifacts):\n        os._exit(5)\n")
    numbers(place / "in.jsonl", [1])
    ended = run(place, *PREDICT)
    assert (ended.returncode, "at row" in ended.stderr) == (3, False)
    assert "exit code 5" in ended.stderr


def test_what_is_under_way_outlives_the_process(tmp_path: Path) -> None:
    assert died_at(tmp_path) is None
    under_way = UnderWay(tmp_path)
    assert died_at(tmp_path) is None
    under_way.begin(10, 20)
    under_way.begin(20, 25)
    assert died_at(tmp_path) == (10, 25)
    under_way.end(10)
    assert died_at(tmp_path) == (20, 25)
    assert suspects_in(tmp_path).ranges == [(20, 25)]
    assert died_at(tmp_path) is None
    assert suspects_in(tmp_path).ranges == [(20, 25)]
    under_way.close()


def test_a_row_is_deadly_after_two_ends_alone() -> None:
    suspects = Suspects()
    suspects.died(10, 20)
    suspects.died(12, 13)
    assert not suspects.is_deadly(12)
    suspects.died(12, 13)
    assert suspects.is_deadly(12)
    assert suspects.ranges == [(12, 20)]


@pytest.mark.parametrize(
    ("gaps", "wanted"),
    [
        ([(0, None)], [(0, 5, False), (5, 8, True), (8, 20, False), (20, 22, True), (22, None, False)]),
        ([(6, 7)], [(6, 7, True)]),
        ([(0, 5), (8, 21)], [(0, 5, False), (8, 20, False), (20, 21, True)]),
        ([(30, None)], [(30, None, False)]),
    ],
)
def test_gaps_are_cut_at_suspects(
    gaps: list[tuple[int, int | None]], wanted: list[tuple[int, int | None, bool]]
) -> None:
    assert list(Suspects([(5, 8), (20, 22)]).stretches(gaps)) == wanted
