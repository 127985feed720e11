"""How a service's processes are ended: none stays behind, whatever session it is in and however it behaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import psutil
import pytest

from mlspec import descendants as looking
from mlspec import serving
from mlspec.descendants import descendants
from mlspec.serving import running

PARENT = """
import signal, subprocess, sys
worker = subprocess.Popen([sys.executable, "worker.py"], start_new_session=True)
def end(number, frame):
    worker.send_signal(signal.SIGTERM)
signal.signal(signal.SIGTERM, end)
print(worker.pid, flush=True)
sys.exit(worker.wait() and 1)
"""
"""As BentoML: a worker with a session of its own, which is told to end and waited for."""
WORKER = """
import signal, sys, time
told = []
def end(number, frame):
    told.append(number)
    if told == [signal.SIGTERM, signal.SIGINT] and {hurries}:
        open("hurried", "w").close()
        sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, end)
open("ready", "w").close()
while True:
    time.sleep(0.05)
"""
"""It goes on after SIGTERM, as one that drains for long."""


@pytest.fixture
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "worker.py").write_text(WORKER.format(hurries=getattr(request, "param", True)))
    return tmp_path


def until(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(pid: int) -> bool:
    """SIGKILL returns before the process has ended."""
    end = time.monotonic() + 30
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def worker_of(process: subprocess.Popen[bytes], folder: Path) -> int:
    until(folder / "ready")
    return int((folder / "log").read_text())


@pytest.fixture
def interrupts() -> Iterator[list[int]]:
    """Ctrl-C after each of these milliseconds, one after another."""
    after: list[int] = []

    def interrupt(number: int, frame: object) -> None:
        if after:
            signal.setitimer(signal.ITIMER_REAL, after.pop(0) / 1000)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGALRM, interrupt)
    yield after
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def served(folder: Path, interrupts: list[int]) -> int:
    """Serve until the first of the interrupts; the worker's id."""
    command = [sys.executable, "parent.py"]
    worker = 0
    try:
        with (folder / "log").open("wb") as log, running(command, folder, log, drain_s=40) as process:
            worker = worker_of(process, folder)
            signal.setitimer(signal.ITIMER_REAL, interrupts.pop(0) / 1000)
            process.wait()
    except KeyboardInterrupt:
        return worker
    raise AssertionError("no Ctrl-C came")


def test_a_second_interrupt_hurries_the_worker(folder: Path, interrupts: list[int]) -> None:
    interrupts += [10, 500]
    assert gone(served(folder, interrupts))
    assert (folder / "hurried").exists()


@pytest.mark.parametrize("folder", [False], indirect=True)
def test_a_third_one_kills_it(folder: Path, interrupts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HURRIED_TIMEOUT_S", 600)
    interrupts += [10, 300, 300]
    assert gone(served(folder, interrupts))


@pytest.mark.parametrize("folder", [False], indirect=True)
def test_a_hurried_worker_that_hangs_is_killed(
    folder: Path, interrupts: list[int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "HURRIED_TIMEOUT_S", 0.3)
    interrupts += [10, 300]
    assert gone(served(folder, interrupts))
    assert "hurrying" in (told := capfd.readouterr().err)
    assert "didn't end within 0.3 s: it is killed" in told


def test_past_the_time_to_drain_the_worker_is_killed_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "STOP_TIMEOUT_S", 0.3)
    with (folder / "log").open("wb") as log, running([sys.executable, "parent.py"], folder, log) as process:
        worker = worker_of(process, folder)
        assert alive(worker)
    assert gone(worker)


@pytest.mark.parametrize("look", ["_of_proc", "_of_ps"])
def test_descendants_are_found(look: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (Path("/proc/self/stat").exists() if look == "_of_proc" else which("ps")):
        pytest.skip("this computer hasn't it")
    monkeypatch.setattr(looking, "_parents", getattr(looking, look))
    monkeypatch.setattr(serving, "STOP_TIMEOUT_S", 0.1)
    with (folder / "log").open("wb") as log, running([sys.executable, "parent.py"], folder, log) as process:
        worker = worker_of(process, folder)
        assert descendants(process.pid) == [worker]
        assert process.pid in descendants(os.getpid())
        assert descendants(worker) == []
