"""One module a command: `run(options)` returns the exit code. What they share stands here."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, OK
from mlspec.workspace import PROJECT_FILE, Surroundings

_NO_SPECS = (PROJECT_FILE, "mlspec.yml")


def surroundings(options: Namespace) -> Surroundings:
    """This computer, as the passes may know it."""
    return Surroundings(os.environ, Path.cwd(), Path.home(), dict(getattr(options, "root", [])))


def spec_files(given: list[Path]) -> tuple[Path, ...]:
    """The specs meant by these arguments, absolute: a folder means all YAML files in it, but for locks, the project
    file and what is hidden."""
    found: dict[Path, Path] = {}
    for path in given:
        for file in _in_folder(path) if path.is_dir() else [path]:
            found.setdefault(file.resolve(), file.absolute())
    return tuple(found.values())


def _in_folder(folder: Path) -> Iterator[Path]:
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".yaml", ".yml") and p.is_file())
    specs = [p for p in files if not _passed_over(p, folder)]
    if not specs:
        raise CommandError("no-specs", f"there is no spec in {folder}", "specs are YAML files; mlspec init writes one")
    yield from specs


def _passed_over(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return hidden or path.name in _NO_SPECS or path.name.endswith(".lock.yaml")


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
    return FINDINGS if report.failed else OK


def _colour(stream: object) -> bool:
    is_terminal = getattr(stream, "isatty", lambda: False)()
    return bool(is_terminal) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
