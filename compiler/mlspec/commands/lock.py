"""`mlspec lock`: write down what is known of a spec's models, so that it compiles where they aren't.

Reads their weights, once: the digests are remembered.
"""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from mlspec.commands import spec_files, surroundings, tell
from mlspec.commands.progress import Progress
from mlspec.diagnostics import Report, Span
from mlspec.digests import Digests
from mlspec.looking import kind_of
from mlspec.model.lock import Lock
from mlspec.passes.inspect import ModelFaults, inspect
from mlspec.passes.lock import lock_path, read_lock
from mlspec.passes.lock.writing import check_contents, lock_text, make_lock
from mlspec.pipeline import Checked, Pipeline
from mlspec.write_file import create_file, replace_file


def run(options: Namespace) -> int:
    here, report = surroundings(options), Report()
    pipeline, progress = Pipeline(here), Progress(spec_files(options.specs))
    digests = Digests(here.digests, progress.say)
    for path in progress:
        own = Report()
        checked = pipeline.check(path, own)
        written = (_checked if options.check else _locked)(checked, digests, own) if checked else None
        progress.clear()
        if written is not None and options.output_format in ("text", "concise"):
            print(here.shown(written), flush=True)
        report.extend(own)
    return tell(report, options, to_stdout=options.check)


def _locked(checked: Checked, digests: Digests, report: Report) -> Path | None:
    """Lock a spec's models; the lock's path if it was written, None if it was as it is or a fault was reported."""
    lock = _made(checked, digests, report)
    if lock is None:
        return None
    place = lock_path(checked.document.path)
    try:
        return place if _put(place, _content(lock, checked)) else None
    except OSError as problem:
        message = f"the lock can't be written: {(problem.strerror or str(problem)).lower()}"
        report.error(
            "write-failed", message, Span(_shown(checked)), help="the old lock, if there was one, is untouched"
        )
        return None


def _made(checked: Checked, digests: Digests, report: Report) -> Lock | None:
    found = inspect(checked.spec, checked.runner, checked.document, checked.workspace, report)
    try:
        return found and make_lock(*found, digests)
    except OSError as problem:
        _unreadable(problem, checked, report)
        return None


def _checked(checked: Checked, digests: Digests, report: Report) -> None:
    """Report what of a lock isn't as `_locked` would write it, as far as the models are here."""
    lock, spec = read_lock(checked.document, report), checked.document.shown
    if lock is None and not report.failed:
        span = checked.document.value_span(("model",))
        report.error("lock-stale", f"there is no lock '{_shown(checked)}'", span, help=f"write it: mlspec lock {spec}")
    if lock is None:
        return
    found = inspect(checked.spec, checked.runner, checked.document, checked.workspace, report, lock)
    try:
        check_contents(lock, found[1] if found else (), digests, ModelFaults(checked.document, report), spec)
        if lock_path(checked.document.path).read_bytes() != _content(lock, checked):
            message = f"'{_shown(checked)}' isn't laid out as mlspec does it"
            report.error("lock-stale", message, Span(_shown(checked)), help=f"write it anew: mlspec lock {spec}")
    except OSError as problem:
        _unreadable(problem, checked, report)


def _put(place: Path, content: bytes) -> bool:
    """Write a lock whole or not at all; False if it is there already, with this content.

    Raises:
        OSError: it can't be written, or something else has its name.
    """
    kind = "a link" if os.path.islink(place) else kind_of(place)  # noqa: PTH114 - Path's own raises
    if kind == "nothing":
        create_file(place, content)
        return True
    if kind != "file":
        # Through a link, a file outside the project could be overwritten.
        raise OSError(f"'{place.name}' is {kind}, not a file")
    if place.read_bytes() == content:
        return False
    replace_file(place, content)
    return True


def _content(lock: Lock, checked: Checked) -> bytes:
    return lock_text(lock, checked.document.path.name).encode()


def _shown(checked: Checked) -> str:
    return str(lock_path(Path(checked.document.shown)))


def _unreadable(problem: OSError, checked: Checked, report: Report) -> None:
    name = Path(str(problem.filename)).name
    message = f"'{name}' can't be read: {(problem.strerror or str(problem)).lower()}"
    report.error("model-unreadable", message, checked.document.value_span(("model",)), help="check its permissions")
