"""A report for people (text, concise) and for programs (JSON, SARIF, GitHub): one function, one format a module."""

from __future__ import annotations

from collections.abc import Callable

from mlspec.diagnostics import Report
from mlspec.reporting.quoted_lines import QuotedLines, read_file

FORMATS = ("text", "concise", "json", "sarif", "github")


def render(report: Report, format: str, *, read: Callable[[str], str | None] = read_file, colour: bool = False) -> str:
    """The report in one of FORMATS, with a line end if it isn't empty. `read` gives the text of a file for quoting.

    No format prints a secret, or a control character as it is.
    """
    if format == "text":
        from mlspec.reporting.text import as_text

        return as_text(report, QuotedLines(read, report), colour=colour)
    if format in ("concise", "github"):
        from mlspec.reporting import lines

        return lines.as_concise(report) if format == "concise" else lines.as_github(report)
    if format == "json":
        from mlspec.reporting.records import as_json

        return as_json(report)
    if format == "sarif":
        from mlspec.reporting.sarif import as_sarif

        return as_sarif(report)
    raise ValueError(f"no format {format!r}: there are {FORMATS}")
