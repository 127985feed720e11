"""The package pass: a bundle is there whole or not at all."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlspec import exchange as exchange_module
from mlspec.diagnostics import Report
from mlspec.model.bundle import Bundle
from mlspec.passes import package as package_pass
from mlspec.passes.package import package

SCRIPT = Path(__file__).parent / "support" / "write_bundles.py"


def bundle(content: str, links: dict[str, Path] | None = None) -> Bundle:
    plan = json.dumps({"files": ["a/deep/file.txt", "stale.txt"]})
    files = {"plan.json": plan.encode(), "a/deep/file.txt": content.encode()}
    return Bundle("project/name/target", files, links or {})


def test_writes_files_and_links(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    place = package(bundle("one", {"models/base": tmp_path / "model"}), tmp_path / "out", Report())
    assert place == tmp_path / "out/project/name/target"
    assert (place / "a/deep/file.txt").read_text() == "one"
    assert (place / "models/base").resolve() == tmp_path / "model"


def test_replaces_the_whole_old_bundle_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    place = package(bundle("one"), tmp_path, Report())
    assert place is not None
    (place / "stale.txt").write_text("of the old bundle")
    package(bundle("two"), tmp_path, Report())
    assert (place / "a/deep/file.txt").read_text() == "two"
    assert not (place / "stale.txt").exists()
    assert [p.name for p in place.parent.iterdir()] == ["target"]


def test_a_bundle_that_is_there_as_it_would_be_written_stays(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    made = bundle("one", {"models/base": tmp_path / "model"})
    place = package(made, tmp_path / "out", Report())
    assert place is not None
    (place / "a/__pycache__").mkdir()
    before = place.stat().st_ino
    assert package(made, tmp_path / "out", Report()) == place
    assert place.stat().st_ino == before
    changes = [
        lambda: (place / "a/deep/file.txt").write_text("edited"),
        lambda: (place / "a/more.txt").write_text("more"),
        lambda: (place / "a/deep/file.txt").unlink(),
        lambda: ((place / "models/base").unlink(), (place / "models/base").symlink_to(tmp_path)),
        lambda: ((place / "a/deep/file.txt").unlink(), (place / "a/deep/file.txt").symlink_to(tmp_path / "nowhere")),
    ]
    for change in changes:
        change()
        package(made, tmp_path / "out", Report())
        assert (place / "a/deep/file.txt").read_text() == "one"
        assert (place / "models/base").resolve() == tmp_path / "model"
        assert not (place / "a/more.txt").exists()


def test_where_the_system_cannot_exchange_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "_swap_call", lambda: None)
    package(bundle("one"), tmp_path, Report())
    place = package(bundle("two"), tmp_path, Report())
    assert place is not None
    assert (place / "a/deep/file.txt").read_text() == "two"
    assert [p.name for p in place.parent.iterdir()] == ["target"]


def test_a_bundle_that_was_set_aside_by_a_killed_build_comes_back(tmp_path: Path) -> None:
    place = package(bundle("one"), tmp_path, Report())
    assert place is not None
    place.rename(place.with_name(".target.old"))
    package_pass._recover(place)
    assert (place / "a/deep/file.txt").read_text() == "one"


def test_does_not_replace_a_bundle_that_holds_more_than_a_build_wrote(tmp_path: Path) -> None:
    place = package(bundle("one"), tmp_path, Report())
    assert place is not None
    (place / "__pycache__").mkdir()
    (place / ".venv").mkdir()
    report = Report()
    assert package(bundle("two"), tmp_path, report) is None
    assert [(d.code, d.message.rpartition(": ")[2]) for d in report] == [("output-taken", ".venv")]
    assert (place / "a/deep/file.txt").read_text() == "one"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = package(bundle("one"), tmp_path, Report())
    assert place is not None

    def full(handle: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(package_pass.os, "write", full)
    report = Report()
    assert package(bundle("two"), tmp_path, report) is None
    assert [d.code for d in report] == ["write-failed"]
    assert [p.name for p in place.parent.iterdir()] == ["target"]
    assert (place / "a/deep/file.txt").read_text() == "one"


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_does_not_replace_what_no_build_made(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "project/name/target"
    place.parent.mkdir(parents=True)
    if kind == "folder":
        place.mkdir()
        (place / "thesis.txt").write_text("precious")
    elif kind == "file":
        place.write_text("precious")
    else:
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    report = Report()
    assert package(bundle("one"), tmp_path, report) is None
    assert [d.code for d in report] == ["output-taken"]
    assert kind != "folder" or (place / "thesis.txt").read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_a_fault_and_no_exception(tmp_path: Path) -> None:
    (tmp_path / "project").write_text("a file where a folder is wanted")
    report = Report()
    assert package(bundle("one"), tmp_path, report) is None
    assert [d.code for d in report] == ["write-failed"]


def start(out: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(SCRIPT), str(out), *arguments])


def killed_in_full_swing(out: Path, delay_s: float) -> None:
    """A process that writes bundle after bundle is killed, some time after its first."""
    command = [sys.executable, str(SCRIPT), str(out), "loop", "exchange", "forever"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        time.sleep(delay_s)
        process.kill()


def whole(out: Path) -> bool:
    """The bundle is there and all its files are of one build."""
    place = out / "project/name/target"
    plan = json.loads((place / "plan.json").read_text())
    contents = {name: (place / name).read_text() for name in plan["files"]}
    return set(contents.values()) == {plan["text"]} and len(contents) == 11


@pytest.mark.parametrize("swap", ["exchange", "renames"])
def test_killed_at_every_call_that_changes_the_disk(tmp_path: Path, swap: str) -> None:
    out = tmp_path / "out"
    assert start(out, "old", swap).wait() == 0
    call, ended = 0, False
    while not ended:
        call += 1
        process = start(out, f"new{call}", swap, str(call))
        ended = process.wait() == 0
        assert ended or process.returncode == -signal.SIGKILL
        if swap == "renames" and not (out / "project/name/target").exists():
            assert (out / "project/name/.target.old/plan.json").is_file()
            continue
        assert whole(out), f"half a bundle after a kill at call {call}"
    assert call > 20
    assert [p.name for p in (out / "project/name").iterdir()] == ["target"]


def test_killed_at_random_moments(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert start(out, "old", "exchange").wait() == 0
    chance = random.Random(7)
    for _ in range(30):
        killed_in_full_swing(out, chance.random() / 20)
        assert whole(out)


def test_builds_at_once_wait_for_each_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    processes = [start(out, f"build{n}", "exchange") for n in range(6)]
    assert [p.wait() for p in processes] == [0] * 6
    assert whole(out)
    assert [p.name for p in (out / "project/name").iterdir()] == ["target"]
