"""The lock beside a spec: read, and checked against its version, its schema, its own digest and its spec's name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mlspec.characters import FORBIDDEN, quoted
from mlspec.diagnostics import Report, Span
from mlspec.looking import NO_FILE, kind_of, stays_inside
from mlspec.model.document import Document, Pointer
from mlspec.model.lock import LOCK_VERSION, Lock, digest
from mlspec.passes.load import parse
from mlspec.passes.validate.checker import misfits, shipped
from mlspec.passes.validate.phrases import path_of
from mlspec.source_text import SourceText

LIMIT_BYTES = 64 << 20
"""The largest lock that is read: that of a model with 100,000 tensors has about a sixth of it."""
_COMMENT = re.compile(r"\A(?:#[^\n]*\n)*")
_CONFLICT = re.compile(r"^(?:<{7}|\|{7}|={7}|>{7})(?:[ \r].*)?$", re.MULTILINE)


class _BadLockError(ValueError):
    """Why a lock is of no use, where in its file that is seen (None: it isn't to be looked into), and the remedy, if it
    isn't to write the lock anew.
    """

    def __init__(self, reason: str, span: Span | None = None, help: str | None = None) -> None:
        super().__init__(reason)
        self.span = span
        self.help = help


def lock_path(spec: Path) -> Path:
    """Where the lock of a spec is, if it has one."""
    return spec.with_name(f"{spec.stem}.lock.yaml")


def read_lock(spec: Document, root: Path, report: Report) -> Lock | None:
    """The lock of a spec of the project in `root`; None if it has none, or after a fault of the lock was reported."""
    file = _file(spec)
    try:
        text = file.text(root)
        lock = None if text is None else file.lock(text)
    except _BadLockError as problem:
        _report(problem, file, spec, report)
        return None
    return lock if lock is None or _is_own(lock.spec, spec, report) else None


def may_be_replaced(spec: Document, root: Path, report: Report) -> bool:
    """Whether a lock of this spec may be written in the place of what is there; False after a fault was reported.

    A lock that is of no use may; one of another spec that is there, or of a newer mlspec, may not.
    """
    file, faults = _file(spec), Report()
    try:
        found = file.owner(root)
    except _BadLockError as problem:
        if problem.help is not None:
            _report(problem, file, spec, faults)
        found = None
    if found is not None and _beside(spec, found) is not None:
        _is_own(found, spec, faults)
    report.extend(faults)
    return not faults.failed


def _file(spec: Document) -> _File:
    return _File(lock_path(spec.path), str(lock_path(Path(spec.shown))))


def _report(problem: _BadLockError, file: _File, spec: Document, report: Report) -> None:
    message, help = f"the lock {quoted(file.shown)} {problem}", f"write it anew: mlspec lock {spec.shown}"
    # A report shows the line that a fault is at: of what isn't the lock's file that would be somebody else's.
    span = problem.span or spec.value_span(("model",))
    report.error("bad-lock", message, span, help=problem.help or help)


def _is_own(named: str, spec: Document, report: Report) -> bool:
    """Whether a lock that names this spec's file is the spec's; a fault if not."""
    if named == spec.path.name:
        return True
    path = lock_path(Path(spec.shown))
    message = f"the lock {quoted(str(path))} is that of {quoted(named)}, not of {quoted(spec.path.name)}"
    help = f"if the spec got another name, write its lock anew: mlspec lock {spec.shown}"
    if _beside(spec, named) is not None:
        help = f"both would have the lock {quoted(path.name)}: give one of the specs another name"
    report.error("lock-taken", message, spec.value_span(("model",)), help=help)
    return False


def _beside(spec: Document, named: str) -> Path | None:
    """The other spec that a lock is of, if its file is there and has the same lock."""
    other = spec.path.parent / Path(named).name
    is_other = named != spec.path.name and lock_path(other) == lock_path(spec.path)
    return other if is_other and _is_file(other) else None


def _is_file(path: Path) -> bool:
    try:
        return kind_of(path) == "file"
    except OSError:
        return True  # it is something, and can't be looked at


class _File:
    """A lock's file. Its methods raise a `_BadLockError` for what isn't as `mlspec lock` writes it."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self.shown = shown

    def text(self, root: Path) -> str | None:
        """What it holds; None if there is no such file."""
        try:
            kind = kind_of(self._path)
            if kind == "nothing":
                return None
            if not stays_inside(self._path, root):
                raise _BadLockError("is a link that leads out of the project", help=self._away())
            if kind != "file":
                raise _BadLockError(NO_FILE[kind], help=self._away())
            return self._content().decode("utf-8")
        except UnicodeDecodeError as problem:
            raise self._bad("is no UTF-8") from problem
        except OSError as problem:
            reason, help = (problem.strerror or str(problem)).lower(), f"check its permissions: ls -ld {self.shown}"
            raise _BadLockError(f"can't be read: {reason}", help=help) from problem

    def _away(self) -> str:
        return f"move it away: mlspec lock writes a file there, which is to be committed ({self.shown})"

    def _content(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
        if len(content) > LIMIT_BYTES:
            raise self._bad(f"has more than {LIMIT_BYTES:,} bytes")
        return content

    def owner(self, root: Path) -> str | None:
        """The spec's file that the lock says it is of; None if there is no lock, or it says none."""
        text = self.text(root)
        named = None if text is None else self._versioned(text).get("spec")
        return named if isinstance(named, str) else None

    def lock(self, text: str) -> Lock:
        data = self._versioned(text)
        misfit = next(misfits(shipped("lock"), data), None)
        if misfit is not None:
            raise self._bad(f"has no fit value at {path_of(misfit.pointer)}", self._place(text, misfit.pointer))
        if digest(data["models"]) != data["digest"]:
            raise self._bad("was changed by hand, or merged: its digest isn't that of its models")
        return Lock.from_data(data)

    def _versioned(self, text: str) -> dict[str, Any]:
        """What the lock says, if it is of this version."""
        if conflict := _CONFLICT.search(text):
            span = SourceText(text, self.shown).span(*conflict.span())
            raise self._bad("holds the conflict markers that a merge left", span)
        data = self._data(text)
        if not isinstance(data, dict) or "version" not in data:
            raise self._bad("says no version")
        version, read = data["version"], f"this mlspec reads version {LOCK_VERSION}"
        if type(version) is int and version > LOCK_VERSION:
            reason = f"was written by a newer mlspec: it is of version {quoted(version)}, {read}"
            raise _BadLockError(
                reason, Span(self.shown), "update mlspec: written anew by this one, it would be of the older form"
            )
        if version != LOCK_VERSION:
            raise self._bad(f"is of version {quoted(version)}; {read}")
        return data

    def _data(self, text: str) -> Any:
        """As `mlspec lock` writes it, it is JSON below a comment, which is read a hundred times faster than YAML."""
        try:
            if not FORBIDDEN.search(text):
                return json.loads(_COMMENT.sub("", text), parse_constant=_refuse)
        except (ValueError, RecursionError):
            pass  # another tool laid it out, or it is broken: the YAML loader says which
        faults = Report()
        document = parse(text, self._path, self.shown, faults)
        fault = next((found for found in faults if found.severity == "error"), None)
        if fault is not None:
            raise self._bad(f"can't be read: {fault.message}", fault.span)
        return document.data if document else None

    def _place(self, text: str, pointer: Pointer) -> Span | None:
        document = parse(text, self._path, self.shown, Report())
        return document.value_span(pointer) if document else None

    def _bad(self, reason: str, span: Span | None = None) -> _BadLockError:
        return _BadLockError(reason, span or Span(self.shown))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
