"""`mlspec doctor`: look at this computer; exit 1 if something keeps services from running here."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial
from threading import Event

from mlspec.exit_codes import FINDINGS, OK
from mlspec.hardware.asking import ask
from mlspec.hardware.doctor import NAME_COLUMNS, examine
from mlspec.hardware.findings import Finding, Here, Status

_COLOURS: dict[Status, str] = {"ok": "32", "warning": "33", "problem": "31"}
_STATUS_COLUMNS = max(map(len, _COLOURS))


def run(options: Namespace) -> int:
    with closing(examine(_here())) as findings:
        return _as_json(list(findings)) if options.output_format == "json" else _as_text(findings)


def _as_json(findings: Sequence[Finding]) -> int:
    failed = any(map(_fails, findings))
    print(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}, indent=2))
    return FINDINGS if failed else OK


def _as_text(findings: Iterable[Finding]) -> int:
    """Print each as it comes: the next may take its time."""
    colour, failed = bool(sys.stdout.isatty() and not os.environ.get("NO_COLOR")), False
    for finding in findings:
        print(_lines(finding, colour), flush=True)
        failed = failed or _fails(finding)
    return FINDINGS if failed else OK


def _fails(finding: Finding) -> bool:
    return finding.status == "problem"


def _here() -> Here:
    stopped = Event()
    return Here(
        system=sys.platform,
        processor=platform.machine(),
        python=sys.version_info[:3],
        executable=sys.executable,
        libc=platform.libc_ver(),
        ask=partial(ask, stopped=stopped),
        which=shutil.which,
        stop=stopped.set,
    )


def _lines(finding: Finding, colour: bool) -> str:
    """A line, and the remedy below it."""
    status = finding.status.ljust(_STATUS_COLUMNS)
    painted = f"\x1b[{_COLOURS[finding.status]}m{status}\x1b[0m" if colour else status
    line = f"{painted}  {finding.name:{NAME_COLUMNS}}  {finding.text}".rstrip()
    indent = " " * (_STATUS_COLUMNS + NAME_COLUMNS + 4)
    return f"{line}\n{indent}{finding.remedy}" if finding.remedy else line
