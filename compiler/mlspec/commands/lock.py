"""`mlspec lock`: write down what is known of a spec's models, so that it compiles where they aren't.

Reads their weights, once: the digests are remembered.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from mlspec.characters import quoted
from mlspec.commands import spec_files, surroundings, tell
from mlspec.commands.progress import Progress
from mlspec.diagnostics import Report, Span
from mlspec.digests import Digests
from mlspec.looking import NO_FILE, kind_of
from mlspec.model.lock import Lock
from mlspec.passes.inspect import ModelFaults, inspect
from mlspec.passes.lock import lock_path, may_be_replaced, read_lock
from mlspec.passes.lock.writing import check_contents, lock_text, make_lock
from mlspec.pipeline import Checked, Pipeline
from mlspec.suggest import listed
from mlspec.write_file import create_file, replace_file


def run(options: Namespace) -> int:
    here, report = surroundings(options), Report()
    paths = spec_files(options.specs)
    pipeline, progress = Pipeline(here), Progress(paths)
    digests = Digests(here.digests, progress.say)
    for path in progress:
        own = Report()
        checked = pipeline.check(path, own)
        apart = checked is not None and _is_apart(checked, paths, own)
        written = (_checked if options.check else _locked)(checked, digests, own) if checked and apart else None
        progress.clear()
        if written is not None and options.output_format in ("text", "concise"):
            print(here.shown(written), flush=True)
        report.extend(own)
    return tell(report, options, to_stdout=options.check)


def _locked(checked: Checked, digests: Digests, report: Report) -> Path | None:
    """Lock a spec's models; the lock's path if it was written, None if it was as it is or a fault was reported."""
    place = lock_path(checked.document.path)
    try:
        if not (_is_free(place, checked, report) and may_be_replaced(checked.document, checked.workspace.root, report)):
            return None
        lock = _made(checked, digests, report)
        return place if lock is not None and _put(place, lock_text(lock).encode()) else None
    except OSError as problem:
        message = f"the lock can't be written: {(problem.strerror or str(problem)).lower()}"
        help = "the old lock, if there was one, is untouched"
        report.error("write-failed", message, _span(checked), help=help)
        return None


def _is_apart(checked: Checked, paths: Iterable[Path], report: Report) -> bool:
    """Whether no other of the specs has the same lock; a fault if one has."""
    own, place = checked.document.path, lock_path(checked.document.path)
    others = [path.name for path in paths if path != own and lock_path(path) == place]
    if others:
        message = f"{quoted(own.name)} and {listed(map(quoted, others))} would have the same lock, {quoted(place.name)}"
        report.error("lock-taken", message, _span(checked), help="give one of the specs another name")
    return not others


def _is_free(place: Path, checked: Checked, report: Report) -> bool:
    """Whether there is nothing in a lock's place, or a file; a fault if there is something else.

    Through a link, a file outside the project could be overwritten.

    Raises:
        OSError: the system doesn't let it be seen.
    """
    kind = kind_of(place)
    told = "is a link" if os.path.islink(place) else NO_FILE[kind] if kind not in ("file", "nothing") else None  # noqa: PTH114 - Path's own raises
    if told is not None:
        message = f"the lock can't be written: {quoted(_shown(checked))} {told}"
        help = f"move it away, then: mlspec lock {checked.document.shown}"
        report.error("write-failed", message, _span(checked), help=help)
    return told is None


def _made(checked: Checked, digests: Digests, report: Report) -> Lock | None:
    found = inspect(checked.spec, checked.runner, checked.document, checked.workspace, report)
    try:
        return found and make_lock(checked.document.path.name, *found, digests)
    except OSError as problem:
        _unreadable(problem, checked, report)
        return None


def _checked(checked: Checked, digests: Digests, report: Report) -> None:
    """Report what of a lock isn't as `_locked` would write it, as far as the models are here."""
    lock, spec = read_lock(checked.document, checked.workspace.root, report), checked.document.shown
    if lock is None and not report.failed:
        span = checked.document.value_span(("model",))
        report.error("lock-stale", f"there is no lock '{_shown(checked)}'", span, help=f"write it: mlspec lock {spec}")
    if lock is None:
        return
    found = inspect(checked.spec, checked.runner, checked.document, checked.workspace, report, lock)
    try:
        check_contents(lock, found[1] if found else (), digests, ModelFaults(checked.document, report), spec)
        if lock_path(checked.document.path).read_bytes() != lock_text(lock).encode():
            message = f"'{_shown(checked)}' isn't laid out as mlspec does it"
            report.error("lock-stale", message, Span(_shown(checked)), help=f"write it anew: mlspec lock {spec}")
    except OSError as problem:
        _unreadable(problem, checked, report)


def _put(place: Path, content: bytes) -> bool:
    """Write a lock whole or not at all; False if it is there already, with this content.

    Raises:
        OSError: it can't be written.
    """
    if kind_of(place) == "nothing":
        create_file(place, content)
        return True
    if place.read_bytes() == content:
        return False
    replace_file(place, content)
    return True


def _span(checked: Checked) -> Span:
    """Where a fault is told: not in the lock, as that may be no file, or somebody else's."""
    return checked.document.value_span(("model",))


def _shown(checked: Checked) -> str:
    return str(lock_path(Path(checked.document.shown)))


def _unreadable(problem: OSError, checked: Checked, report: Report) -> None:
    name = Path(str(problem.filename)).name
    message = f"'{name}' can't be read: {(problem.strerror or str(problem)).lower()}"
    report.error("model-unreadable", message, checked.document.value_span(("model",)), help="check its permissions")
