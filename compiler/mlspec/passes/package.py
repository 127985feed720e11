"""package: put a bundle in its place on disk, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlspec.diagnostics import Report, Span
from mlspec.exchange import exchange
from mlspec.model.bundle import Bundle

MARK = "plan.json"
"""The file by which a folder is known to be a bundle, and so may be replaced."""


def package(bundle: Bundle, out: Path, report: Report) -> Path | None:
    """Write the bundle below `out` in place of the old one; None after a fault was reported.

    A build that is killed at any moment leaves the old bundle or the new one. Two builds of one bundle wait for each
    other.
    """
    place = out / bundle.folder
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.parent):
            _recover(place)
            if _is_foreign(place):
                _refuse(place, report)
                return None
            _write(bundle, _staged(place))
            _swap_in(place)
    except OSError as problem:
        message = f"the bundle can't be written: {problem.strerror or problem} ({problem.filename or place})"
        report.error("write-failed", message, Span(str(place)), help="the old bundle, if there was one, is untouched")
        return None
    return place


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself locked: no lock file, and the system lets go of it when a build dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _staged(place: Path) -> Path:
    return place.with_name(f".{place.name}.new")


def _set_aside(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


def _recover(place: Path) -> None:
    """Clear what a killed build left: an old bundle that was set aside goes back if no new one took its place."""
    old = _set_aside(place)
    if old.exists() and not place.exists():
        old.rename(place)
    for left in (_staged(place), old):
        if left.exists():
            shutil.rmtree(left)


def _is_foreign(place: Path) -> bool:
    """Something that no build put there. An empty folder is nobody's."""
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        return True
    return place.is_dir() and any(place.iterdir()) and not (place / MARK).is_file()


def _refuse(place: Path, report: Report) -> None:
    message = f"{place} is no bundle of mlspec's: there is no {MARK} in it"
    report.error("output-taken", message, Span(str(place)), help="move it away, or build elsewhere with -o DIR")


def _write(bundle: Bundle, folder: Path) -> None:
    folder.mkdir()
    for name, content in bundle.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_file(path, content)
    for name, target in bundle.links.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target.resolve())


def _write_file(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def _swap_in(place: Path) -> None:
    staged = _staged(place)
    if not place.exists():
        staged.rename(place)
        return
    if exchange(staged, place):
        shutil.rmtree(staged)
        return
    place.rename(_set_aside(place))
    staged.rename(place)
    shutil.rmtree(_set_aside(place))
