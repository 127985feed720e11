"""Killed at any moment, a batch goes on where it was: no row is lost, none is there twice, none is computed again."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch.bundles import bundle, computed, done, job, numbers, records
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.job import BatchJob
from mlspec_runtime.batch.parts import gaps, parts_in
from mlspec_runtime.batch.work import locked

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from write_bundles import Killer

CALLS = ("mkdir", "open", "replace", "unlink", "rmdir", "fsync")
VALUES = [*range(100, 119), 7, *range(119, 140)]
"""The row 19 fails."""
REFUSED = ("changed", "running", "taken")
TAKEN = 42


def forked(work: Callable[[], Any]) -> int:
    """Do it in a copy of this process; its exit status, negative for a signal."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BatchError as error:
            code = 40 + REFUSED.index(error.kind)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(call: int, asked: BatchJob, place: Path) -> int:
    def work() -> None:
        killer = Killer(call)
        for name in CALLS:
            setattr(os, name, killer.watch(getattr(os, name)))
        done(asked, place)

    return forked(work)


def rows_in_parts(asked: BatchJob) -> set[int]:
    if not asked.work.exists():
        return set()
    return {row for part in parts_in(asked.work) for row in range(part.first, part.end)}


def assert_complete(asked: BatchJob) -> None:
    rows = records(asked.output)
    assert [row["row"] for row in rows] == [row for row in range(41) if row != 19]
    assert [row["y"] for row in rows] == [2.0 * value for value in VALUES if value != 7]
    assert [row["row"] for row in records(asked.failed)] == [19]


def test_killed_at_every_call_that_changes_the_disk(tmp_path: Path) -> None:
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", VALUES)
    call, ended = 0, False
    while not ended:
        call += 1
        asked = job(tmp_path, "in.jsonl", f"{call}.jsonl", rows_per_part=10, batch_rows=5)
        ended = killed_at(call, asked, place) == 0
        kept, before = rows_in_parts(asked), len(computed(place))
        if not ended and forked(partial(done, asked, place)) == TAKEN:
            # All was done but for the folder, of which the lock alone was left: no run can know that.
            assert not rows_in_parts(asked)
        assert_complete(asked)
        again = set(computed(place)[before:])
        assert again.isdisjoint(VALUES[row] for row in kept if row != 19)
        assert not asked.work.exists()
    assert call > 30
    left = sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith("."))
    assert left == []


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Each run may make so many calls before it is killed: all of them together come to an end."""
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", VALUES)
    asked = job(tmp_path, "in.jsonl", rows_per_part=10, batch_rows=5)
    for call in (12, 18, 9, 15, 30, 11, 25, 14, 19):
        code = killed_at(call, asked, place)
        assert code in (0, TAKEN, -signal.SIGKILL)
        if code != -signal.SIGKILL:
            break
    else:
        done(asked, place)
    assert_complete(asked)


def test_restarted_over_an_old_output_and_killed(tmp_path: Path) -> None:
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", VALUES)
    call, ended = 0, False
    while not ended:
        call += 1
        (tmp_path / "out.jsonl").write_text("old")
        asked = job(tmp_path, "in.jsonl", rows_per_part=20, restart=True)
        ended = killed_at(call, asked, place) == 0
        if (tmp_path / "out.jsonl").read_text() != "old":
            assert_complete(asked)
        done(asked, place)
        assert_complete(asked)


def begun(tmp_path: Path) -> tuple[BatchJob, Path]:
    """A batch that was killed after two parts."""
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", VALUES)
    asked = job(tmp_path, "in.jsonl", rows_per_part=10, batch_rows=5)
    call = 5
    while len(rows_in_parts(asked)) < 20:
        killed_at(call, asked, place)
        call += 1
    return asked, place


@pytest.mark.parametrize("change", ["input", "model", "code", "settings"])
def test_what_changed_since_is_not_gone_on_with(tmp_path: Path, change: str) -> None:
    asked, place = begun(tmp_path)
    if change == "input":
        numbers(tmp_path / "in.jsonl", [*VALUES, 1])
    elif change == "code":
        (module,) = (place / "user").glob("*.py")
        module.write_text(module.read_text() + "\n")
    elif change == "model":
        plan = json.loads((place / "plan.json").read_text())
        plan["runtime"]["service"]["target"] = "elsewhere"
        (place / "plan.json").write_text(json.dumps(plan))
    else:
        asked = job(tmp_path, "in.jsonl", keep=("id",))
    with pytest.raises(BatchError, match="changed since this output was begun") as refused:
        done(asked, place)
    assert (refused.value.kind, "--restart" in refused.value.help) == ("changed", True)
    assert ("in.jsonl" in refused.value.message) == (change == "input")
    assert len(rows_in_parts(asked)) >= 20
    again = job(tmp_path, "in.jsonl", keep=asked.keep, restart=True)
    assert done(again, place).rows == (42 if change == "input" else 41)


def test_the_size_of_parts_may_change(tmp_path: Path) -> None:
    asked, place = begun(tmp_path)
    done(job(tmp_path, "in.jsonl", rows_per_part=3), place)
    assert_complete(asked)


def test_a_part_in_the_middle_that_is_missing_is_computed(tmp_path: Path) -> None:
    asked, place = begun(tmp_path)
    first = parts_in(asked.work)[0]
    first.path.unlink()
    assert next(gaps(parts_in(asked.work))) == (first.first, first.end)
    done(asked, place)
    assert_complete(asked)


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", VALUES)
    asked = job(tmp_path, "in.jsonl")
    with locked(asked):
        with pytest.raises(BatchError, match="another run is at work") as refused:
            done(asked, place)
        assert refused.value.kind == "running"
    done(asked, place)
    assert_complete(asked)


@pytest.mark.parametrize("taken", ["out.jsonl", "out.jsonl.failed.jsonl"])
def test_what_is_there_is_not_overwritten(tmp_path: Path, taken: str) -> None:
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", VALUES)
    (tmp_path / taken).write_text("mine")
    with pytest.raises(BatchError, match="is there already") as refused:
        done(job(tmp_path, "in.jsonl"), place)
    assert refused.value.kind == "taken"
    assert (tmp_path / taken).read_text() == "mine"
    assert computed(place) == []
    done(job(tmp_path, "in.jsonl", restart=True), place)
    assert_complete(job(tmp_path, "in.jsonl"))


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    numbers(tmp_path / "in.jsonl", [1])
    (tmp_path / "out.jsonl.parts").mkdir()
    (tmp_path / "out.jsonl.parts/mine.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(BatchError, match="no run of mlspec predict wrote: mine"):
            done(job(tmp_path, "in.jsonl", restart=restart), bundle(tmp_path / f"b{restart}"))


def test_a_full_disk_leaves_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = bundle(tmp_path / "b")
    numbers(tmp_path / "in.jsonl", VALUES)
    asked = job(tmp_path, "in.jsonl", rows_per_part=10, batch_rows=5)
    times, sync = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal times
        times += 1
        if times > 4:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        done(asked, place)
    assert len(rows_in_parts(asked)) == 20
    monkeypatch.undo()
    done(asked, place)
    assert_complete(asked)
