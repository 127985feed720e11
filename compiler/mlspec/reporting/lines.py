"""Formats of one line a diagnostic: concise, and workflow commands for GitHub Actions."""

from __future__ import annotations

from mlspec.diagnostics import Diagnostic, Report
from mlspec.reporting.words import on_one_line, remedy, safe


def as_concise(report: Report) -> str:
    """`file:line:column: error[code]: message (remedy)`."""
    return "".join(_concise(found) + "\n" for found in report)


def as_github(report: Report) -> str:
    """Annotations: https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""
    return "".join(_github(found) + "\n" for found in report)


def _concise(found: Diagnostic) -> str:
    place = f"{on_one_line(found.span.file)}:{found.span.line}:{found.span.column}"
    extra = on_one_line(found.label or found.help)
    return f"{place}: {found.severity}[{found.code}]: {on_one_line(found.message)}" + (f" ({extra})" if extra else "")


def _github(found: Diagnostic) -> str:
    span = found.span
    properties = {"file": safe(span.file), "line": span.line, "endLine": span.end_line}
    if span.line == span.end_line:  # GitHub takes columns only of a range within one line
        properties |= {"col": span.column, "endColumn": span.end_column}
    properties["title"] = found.code
    listed = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    words = _data("\n".join([safe(found.message), remedy(found)]))
    return f"::{found.severity} {listed}::{words}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
