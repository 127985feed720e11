"""The folder beside the output with all that is done so far: who may work in it, and what it was begun for."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.job import BatchJob, settings
from mlspec_runtime.batch.parts import Part, parts_in
from mlspec_runtime.batch.sinks import Sink
from mlspec_runtime.batch.sources import InputFile
from mlspec_runtime.plan import PLAN_FILE

_LOCK, _RUN, _JOINED, _WHOLE = "lock", "run.json", "joined.json", "joined-output"
_OURS = re.compile(r"(part|failed|new|joined)-[\w.-]+|(run|joined|suspects)\.json(\.new)?|lock|under-way", re.ASCII)
_SHOWN_FILES = 1000
_RESTART = "give --restart to begin again: what is done so far is thrown away"


@dataclass(frozen=True)
class Summary:
    """All rows of the input, and those of them that failed."""

    rows: int
    failed: int


@contextmanager
def locked(job: BatchJob) -> Iterator[Work]:
    """The folder, for this process alone; the system lets go of it when the process ends.

    Raises:
        BatchError: another process has it, or something else is there.
    """
    handle = _lock(job)
    try:
        yield Work(job)
    finally:
        _leave_nothing_empty(job.work)
        os.close(handle)


def _lock(job: BatchJob) -> int:
    while True:
        _make(job.work)
        # Whoever had it may remove it at any moment.
        with suppress(FileNotFoundError):
            handle = os.open(job.work / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _take(handle, job)
                if os.path.samestat(os.fstat(handle), (job.work / _LOCK).stat()):
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)


def _leave_nothing_empty(folder: Path) -> None:
    """Where nothing was begun, there need be no folder."""
    if folder.is_dir() and [entry.name for entry in folder.iterdir()] == [_LOCK]:
        _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    (folder / _LOCK).unlink()
    # Another run may have made a lock of its own meanwhile.
    with suppress(OSError):
        folder.rmdir()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
        foreign = min((entry.name for entry in folder.iterdir() if not _OURS.fullmatch(entry.name)), default=None)
    except FileExistsError:
        foreign = folder.name
    except FileNotFoundError as problem:
        # Folders such as /proc are there, and say so of what nobody can make in them.
        there = folder.parent.is_dir()
        told = f"nothing can be written in {folder.parent}" if there else f"there is no folder {folder.parent}"
        help = "name another output" if there else "make it, or name another output"
        raise BatchError("write", told, help) from problem
    if foreign is not None:
        message = f"{folder} holds what no run of mlspec predict wrote: {foreign}"
        raise BatchError("taken", message, "move that away, or name another output")


def _take(handle: int, job: BatchJob) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        message = f"another run is at work on {job.output}"
        raise BatchError("running", message, "wait for its end, or name another output") from None


class Work:
    """What lies in the folder. By one process at a time."""

    def __init__(self, job: BatchJob) -> None:
        self.folder = job.work
        self._job = job

    def begin(self, begun_for: Mapping[str, Any]) -> Summary | None:
        """Go on with what was begun for the same input, model and columns, or begin. What came of it, if it had ended
        but for taking its folder away.

        Raises:
            BatchError: it was begun for something else, or a file that no run wrote is where one would write.
        """
        before, joined = None if self._job.restart else self._read(_RUN), self._read(_JOINED)
        if joined is not None and self._job.output.exists() and not (self.folder / _WHOLE).exists():
            self._remove_content()
            if before is not None and _is_same(before, begun_for):
                return Summary(joined["rows"], joined["failed"])
            before = joined = None
        if before is None:
            self._check_places(replaces=self._job.restart)
            self._remove_content()
            self._write(_RUN, {**begun_for, "replaces": self._job.restart})
        else:
            _check_same(before, begun_for)
            self._go_on(before, joining=joined is not None)
        return None

    def _go_on(self, before: Mapping[str, Any], *, joining: bool) -> None:
        """With the parts that are whole; what was joined is joined again, over what it has put in its place."""
        self._check_places(replaces=before["replaces"] or joining)
        if joining:
            self._write(_RUN, {**before, "replaces": True})
            (self.folder / _JOINED).unlink()
        for entry in self.folder.iterdir():
            if entry.name.startswith("new-") or entry.name.endswith(".new") or entry.name == _WHOLE:
                entry.unlink()

    def _check_places(self, *, replaces: bool) -> None:
        for place in (self._job.output, self._job.failed):
            if place.is_dir() or (not replaces and (place.exists() or place.is_symlink())):
                told = "is a folder" if place.is_dir() else "is there already"
                help = "name another file" if place.is_dir() else "name another file, or give --restart to replace it"
                raise BatchError("taken", f"{place} {told}", help)

    def parts(self) -> list[Part]:
        """Those that are whole, in order."""
        return parts_in(self.folder)

    def join(self, sink: Sink) -> Summary:
        """Put the output and the file of failed rows in their places, and take the folder away."""
        parts = self.parts()
        summary = Summary(parts[-1].end if parts else 0, sum(part.failed for part in parts))
        joined, failed = self.folder / _WHOLE, _beside(self._job.failed)
        sink.join([part.path for part in parts], joined)
        _lay_together([part.failures for part in parts if part.failed], failed)
        self._write(_JOINED, {"rows": summary.rows, "failed": summary.failed})
        if summary.failed:
            failed.replace(self._job.failed)
        else:
            failed.unlink()
            self._job.failed.unlink(missing_ok=True)
        joined.replace(self._job.output)
        self._end()
        return summary

    def _end(self) -> None:
        self._remove_content()
        _remove_folder(self.folder)

    def _remove_content(self) -> None:
        """All but the lock. What it was begun for goes before what says that it has ended, and both go last."""
        last = (_RUN, _JOINED)
        for entry in list(self.folder.iterdir()):
            if entry.name not in (*last, _LOCK):
                entry.unlink()
        for name in last:
            (self.folder / name).unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            read = json.loads((self.folder / name).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as problem:
            raise BatchError("changed", f"{self.folder / name} can't be read: {problem}", _RESTART) from problem
        return read if isinstance(read, dict) else {}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        temporary = self.folder / f"{name}.new"
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self.folder / name)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.new")


def _lay_together(files: Sequence[Path], place: Path) -> None:
    with place.open("wb") as whole:
        for path in files:
            with path.open("rb") as file:
                shutil.copyfileobj(file, whole)


def begun_for(job: BatchJob, files: Sequence[InputFile], bundle: Path) -> dict[str, Any]:
    """What the rows depend on: the input's files, the plan with the user's code, the columns."""
    told = [[str(file.path), file.size_bytes, file.mtime_ns] for file in files]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    shown = told if len(told) <= _SHOWN_FILES else []
    return {"input": digest, "files": shown, "model": _model_digest(bundle), "settings": settings(job)}


def _model_digest(bundle: Path) -> str:
    """Of what the bundle serves; not of the library that serves it."""
    digest = hashlib.sha256()
    digest.update(json.dumps(json.loads((bundle / PLAN_FILE).read_bytes())["runtime"], sort_keys=True).encode())
    own = bundle / "user"
    for path in sorted(path for path in own.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(own).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return all(before.get(key) == now[key] for key in ("input", "model", "settings"))


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    told = {"input": _changed_input(before, now), "model": "the spec or its model", "settings": "what columns it takes"}
    for key, changed in told.items():
        if before.get(key) != now[key]:
            raise BatchError("changed", f"{changed} changed since this output was begun", _RESTART)


def _changed_input(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    known = [tuple(file) for file in before.get("files", [])]
    changed = sorted(set(known) ^ {tuple(file) for file in now["files"]}) if known and now["files"] else []
    return f"the input ({changed[0][0]})" if changed else "the input"
