"""package: put a bundle in its place on disk, whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlspec.diagnostics import Report, Span
from mlspec.exchange import exchange
from mlspec.model.bundle import MARK, Bundle


def package(bundle: Bundle, out: Path, report: Report) -> Path | None:
    """Write the bundle below `out` in place of the old one; None after a fault was reported.

    A build that is killed at any moment leaves the old bundle or the new one. Two builds of one bundle wait for each
    other. A bundle that is there as it would be written stays: what runs in its folder isn't disturbed.
    """
    place = out / bundle.folder
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.parent):
            _recover(place)
            foreign = _foreign(place)
            if foreign is not None:
                _refuse(place, foreign, report)
                return None
            if not _is_there(bundle, place):
                _put(bundle, place, report)
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


def _foreign(place: Path) -> str | None:
    """What there is at the place that no build wrote: itself, or the first such entry in it."""
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        return place.name
    entries = {entry.name for entry in place.iterdir()} if place.is_dir() else set()
    return min(entries - _written(place), default=None)


def _written(place: Path) -> set[str]:
    """The top entries that a bundle lists as its own, with what running it leaves."""
    try:
        files = json.loads((place / MARK).read_bytes())["files"]
        return {MARK, "models", "__pycache__", *(str(name).partition("/")[0] for name in files)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _refuse(place: Path, foreign: str, report: Report) -> None:
    message = f"{place} holds what no build wrote: {foreign}"
    help = "a build replaces the whole folder: move that away, or build elsewhere with -o DIR"
    report.error("output-taken", message, Span(str(place)), help=help)


def _is_there(bundle: Bundle, place: Path) -> bool:
    """Whether the place holds this very bundle, and nothing else but what Python leaves there."""
    files, links = _found(place)
    if files != bundle.files.keys() or links != {name: str(to.resolve()) for name, to in bundle.links.items()}:
        return False
    try:
        return all((place / name).read_bytes() == content for name, content in bundle.files.items())
    except OSError:  # what can't be read is written again
        return False


def _found(place: Path) -> tuple[set[str], dict[str, str]]:
    """The files below a place, and the links with what they lead to; of no place, none."""
    files, links = set(), {}
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for path in (Path(folder, name) for name in (*folders, *names)):
            shown = path.relative_to(place).as_posix()
            if path.is_symlink():
                links[shown] = str(path.readlink())
            elif path.name in names:
                files.add(shown)
    return files, links


def _put(bundle: Bundle, place: Path, report: Report) -> None:
    """Write the bundle beside its place, then let it take it; the old one goes last."""
    staged = _staged(place)
    try:
        _write(bundle, staged)
        old = _swap_in(staged, place)
    except BaseException:
        # An interrupt or a full disk: what is half written must not stay and hold the space.
        shutil.rmtree(staged, ignore_errors=True)
        if _set_aside(place).exists() and not place.exists():
            _set_aside(place).rename(place)
        raise
    if old is not None:
        _remove(old, place, report)


def _remove(old: Path, place: Path, report: Report) -> None:
    try:
        shutil.rmtree(old)
    except OSError as problem:
        message = f"the new bundle is in place, but the old one can't be removed: {problem.strerror or problem}"
        report.warning("old-bundle-left", message, Span(str(place)), help=f"remove {old}")


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


def _swap_in(staged: Path, place: Path) -> Path | None:
    """Put the staged folder in its place; gives the old one's new path, None if there was none."""
    if not place.exists():
        staged.rename(place)
        return None
    if exchange(staged, place):
        return staged
    place.rename(_set_aside(place))
    staged.rename(place)
    return _set_aside(place)
