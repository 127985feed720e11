"""The lock beside a spec: read, and checked against its version, its schema and its own digest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mlspec.characters import FORBIDDEN, quoted
from mlspec.diagnostics import Report, Span
from mlspec.looking import NO_FILE, kind_of
from mlspec.model.document import Document, Pointer
from mlspec.model.lock import LOCK_VERSION, Lock, digest
from mlspec.passes.load import parse
from mlspec.passes.validate.checker import misfits, shipped
from mlspec.passes.validate.phrases import path_of

LIMIT_BYTES = 64 << 20
"""The largest lock that is read: that of a model with 100,000 tensors has about a sixth of it."""
_COMMENT = re.compile(r"\A(?:#[^\n]*\n)*")


class _BadLockError(ValueError):
    """Why a lock is of no use, and where in its file that is seen."""

    def __init__(self, reason: str, span: Span) -> None:
        super().__init__(reason)
        self.span = span


def lock_path(spec: Path) -> Path:
    """Where the lock of a spec is, if it has one."""
    return spec.with_name(f"{spec.stem}.lock.yaml")


def read_lock(spec: Document, report: Report) -> Lock | None:
    """The lock of a spec; None if it has none, or after a fault of the lock was reported."""
    file = _File(lock_path(spec.path), str(lock_path(Path(spec.shown))))
    try:
        text = file.text()
        return None if text is None else file.lock(text)
    except _BadLockError as problem:
        help = f"write it anew: mlspec lock {spec.shown}"
        report.error("bad-lock", f"the lock {quoted(file.shown)} {problem}", problem.span, help=help)
        return None


class _File:
    """A lock's file. Its methods raise a `_BadLockError` for what isn't as `mlspec lock` writes it."""

    def __init__(self, path: Path, shown: str) -> None:
        self._path = path
        self.shown = shown

    def text(self) -> str | None:
        """What it holds; None if there is no such file."""
        try:
            kind = kind_of(self._path)
            if kind == "nothing":
                return None
            if kind != "file":
                raise self._bad(NO_FILE[kind])
            return self._content().decode("utf-8")
        except UnicodeDecodeError as problem:
            raise self._bad("is no UTF-8") from problem
        except OSError as problem:
            raise self._bad(f"can't be read: {(problem.strerror or str(problem)).lower()}") from problem

    def _content(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
        if len(content) > LIMIT_BYTES:
            raise self._bad(f"has more than {LIMIT_BYTES:,} bytes")
        return content

    def lock(self, text: str) -> Lock:
        data = self._data(text)
        if not isinstance(data, dict) or "version" not in data:
            raise self._bad("says no version")
        if data["version"] != LOCK_VERSION:
            raise self._bad(f"is of version {quoted(data['version'])}; this mlspec reads version {LOCK_VERSION}")
        misfit = next(misfits(shipped("lock"), data), None)
        if misfit is not None:
            raise self._bad(f"has no fit value at {path_of(misfit.pointer)}", self._place(text, misfit.pointer))
        if digest(data["models"]) != data["digest"]:
            raise self._bad("was changed by hand, or merged: its digest isn't that of its models")
        return Lock.from_data(data)

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
