"""`mlspec doctor`: look at this computer; exit 1 if something keeps services from running here."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from argparse import Namespace
from dataclasses import asdict

from mlspec.commands.columns import aligned
from mlspec.exit_codes import FINDINGS, OK
from mlspec.hardware.asking import ask
from mlspec.hardware.doctor import examine
from mlspec.hardware.findings import Finding, Here, Status

_COLOURS: dict[Status, str] = {"ok": "32", "warning": "33", "problem": "31"}


def run(options: Namespace) -> int:
    findings = examine(_here())
    failed = any(finding.status == "problem" for finding in findings)
    if options.output_format == "json":
        print(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print("\n".join(_lines(findings, sys.stdout.isatty() and not os.environ.get("NO_COLOR"))))
    return FINDINGS if failed else OK


def _here() -> Here:
    return Here(
        system=sys.platform,
        processor=platform.machine(),
        python=sys.version_info[:3],
        executable=sys.executable,
        libc=platform.libc_ver(),
        ask=ask,
        which=shutil.which,
    )


def _lines(findings: list[Finding], colour: bool) -> list[str]:
    """A line a finding, its remedy below it."""
    lines = []
    for finding, line in zip(findings, aligned([(f.status, f.name, f.text) for f in findings]), strict=True):
        status = line[: len(finding.status)]
        painted = f"\x1b[{_COLOURS[finding.status]}m{status}\x1b[0m" if colour else status
        lines.append(painted + line[len(status) :])
        if finding.remedy:
            lines.append(f"{' ' * line.index(finding.text)}{finding.remedy}")
    return lines
