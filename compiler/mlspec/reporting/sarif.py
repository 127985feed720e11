"""The report as SARIF 2.1.0, for code scanning: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import quote

from mlspec import __version__
from mlspec.codes import explain, title
from mlspec.diagnostics import Diagnostic, Related, Report, Span
from mlspec.reporting.words import remedy, safe

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(report: Report) -> str:
    """One run with a rule for each code that occurs."""
    codes = sorted({found.code for found in report})
    run = {
        "tool": {"driver": {"name": "mlspec", "version": __version__, "rules": [_rule(code) for code in codes]}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(found, codes.index(found.code)) for found in report],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(code: str) -> dict[str, Any]:
    page = explain(code) or title(code)
    return {"id": code, "shortDescription": {"text": title(code)}, "help": {"text": page, "markdown": page}}


def _result(found: Diagnostic, rule: int) -> dict[str, Any]:
    return {
        "ruleId": found.code,
        "ruleIndex": rule,
        "level": found.severity,
        "message": {"text": f"{safe(found.message)}: {remedy(found)}"},
        "locations": [_location(found.span)],
        **({"relatedLocations": [_related(r) for r in found.related]} if found.related else {}),
    }


def _related(related: Related) -> dict[str, Any]:
    return {**_location(related.span), "message": {"text": safe(related.message)}}


def _location(span: Span) -> dict[str, Any]:
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    return {"physicalLocation": {"artifactLocation": {"uri": _uri(span.file)}, "region": region}}


def _uri(file: str) -> str:
    path = quote(os.fsencode(file))
    return f"file://{path}" if path.startswith("/") else path
