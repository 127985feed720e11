"""The report as JSON: a list of flat records."""

from __future__ import annotations

import json

from mlspec.diagnostics import Diagnostic, Report
from mlspec.reporting.words import remedy, safe


def as_json(report: Report) -> str:
    """A list of `{code, severity, message, file, line, column, end_line, end_column, help}`."""
    return json.dumps([_record(found) for found in report], indent=2) + "\n"


def _record(found: Diagnostic) -> dict[str, str | int]:
    span = found.span
    return {
        "code": found.code,
        "severity": found.severity,
        "message": safe(found.message),
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
        "help": remedy(found),
    }
