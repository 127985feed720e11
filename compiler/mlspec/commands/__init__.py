"""One module a command: `run(options)` returns the exit code. What they share stands here."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import FAILED, FINDINGS, OK
from mlspec.model.bundle import MARK as BUNDLE_MARK
from mlspec.workspace import PROJECT_FILE, Surroundings

if TYPE_CHECKING:
    from mlspec.hardware.machines import Found

_NO_SPECS = (PROJECT_FILE, "mlspec.yml")
_SPEC = re.compile(rb"mlspec/v|ModelService")
"""What makes a YAML file in a folder a spec: its apiVersion or its kind."""
_WRITING = ("write-failed", "output-taken", "quantize-failed", "disk-full")
"""Codes of quantizing and writing: the specs were fine, the build failed."""
_NOWHERE = Path("/nonexistent")
"""The home of a user who has none, as Debian has it."""


def surroundings(options: Namespace) -> Surroundings:
    """This computer, as the passes may know it.

    Raises:
        CommandError: the working folder was deleted.
    """
    try:
        working_folder = Path.cwd()
    except FileNotFoundError as problem:
        help = "change into a folder that is there"
        raise CommandError("working-folder", "the working folder isn't there any more", help) from problem
    roots = dict(getattr(options, "root", []))
    reproducible = getattr(options, "reproducible", False)
    return Surroundings(os.environ, working_folder, _home(), roots, _this_machine, reproducible)


def _this_machine() -> Found:
    from mlspec.hardware.detect import this_computer

    return this_computer()


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return _NOWHERE


def spec_files(given: list[Path]) -> tuple[Path, ...]:
    """The specs meant by these arguments, absolute: a folder means all specs below it.

    Passed over in a folder are bundles, locks, the project file, what is hidden and other YAML files.

    Raises:
        CommandError: a folder has none, or can't be read.
    """
    found: dict[str, Path] = {}
    for path in given:
        for file in _in_folder(path) if _is_folder(path) else [path]:
            found.setdefault(os.path.realpath(file), file.absolute())
    return tuple(found.values())


def _in_folder(folder: Path) -> list[Path]:
    specs = [path for path in _files(folder) if _is_spec(path)]
    if not specs:
        raise CommandError("no-specs", f"there is no spec in {folder}", "specs are YAML files; mlspec init writes one")
    return specs


def _files(folder: Path) -> Iterator[Path]:
    """The YAML files of a folder and of those in it that hold no bundle."""
    for at, folders, names in os.walk(folder, onerror=_refuse):
        if BUNDLE_MARK in names and "bentofile.yaml" in names:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "node_modules")
        yield from (Path(at, name) for name in sorted(names) if name.endswith((".yaml", ".yml")))


def _is_spec(path: Path) -> bool:
    beside_a_spec = path.name.endswith((".lock.yaml", ".calibration.yaml"))
    if path.name.startswith(".") or path.name in _NO_SPECS or beside_a_spec or not path.is_file():
        return False
    try:
        return bool(_SPEC.search(path.read_bytes()))
    except OSError as problem:
        _refuse(problem)


def _is_folder(path: Path) -> bool:
    """Whether it is one, as far as can be seen: what can't be looked at is left to `load` to explain."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _refuse(problem: OSError) -> NoReturn:
    reason = (problem.strerror or "can't be read").lower()
    help = "check its permissions, or name specs"
    raise CommandError("folder-unreadable", f"{problem.filename}: {reason}", help) from problem


def tell(report: Report, options: Namespace, *, to_stdout: bool) -> int:
    """Print what was found and give the exit code. Machine formats go to stdout, text where the command wants it."""
    machine = options.output_format in ("json", "sarif", "github")
    if not len(report) and not machine:
        return OK
    from mlspec.reporting import render

    stream = sys.stdout if machine or to_stdout else sys.stderr
    text = render(report, options.output_format, colour=_colour(stream))
    if text:
        print(text, file=stream, end="" if text.endswith("\n") else "\n")
    if any(found.code in _WRITING for found in report):
        return FAILED
    return FINDINGS if report.failed else OK


def _colour(stream: object) -> bool:
    is_terminal = getattr(stream, "isatty", lambda: False)()
    return bool(is_terminal) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
