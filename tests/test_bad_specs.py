"""The bad specs in tests/bad, each with the exact report that it must get.

MLSPEC_UPDATE_SNAPSHOTS=1 writes the reports anew: look at the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspec import pipeline
from mlspec.diagnostics import Report
from mlspec.reporting import render
from mlspec.reporting.quoted_lines import read_file
from mlspec.workspace import PROJECT_FILE, Surroundings

BAD = Path(__file__).parent / "bad"
SPECS = sorted(path for path in BAD.glob("*.yaml") if path.name != PROJECT_FILE)
UPDATE = os.environ.get("MLSPEC_UPDATE_SNAPSHOTS") == "1"
SECRETS = ("hunter2", "tr0ub4dor", "12345678", "NotARealToken", "notARealToken", "not-a-real", "not a real", "FODNN7")


def report_of(spec: Path, home: Path) -> Report:
    """What `mlspec check` finds in a spec of the folder."""
    report = Report()
    pipeline.check([spec], Surroundings({}, BAD, home), report)
    return report


def as_text(report: Report, format: str = "text") -> str:
    return render(report, format, read=lambda file: read_file(str(BAD / file)))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_a_bad_spec_gets_its_report(spec: Path, tmp_path: Path) -> None:
    text = as_text(report_of(spec, tmp_path))
    expected = spec.with_suffix(".txt")
    if UPDATE:
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("format", ["text", "concise", "json", "sarif", "github"])
@pytest.mark.parametrize("spec", [s for s in SPECS if "secret" in s.stem], ids=lambda spec: spec.stem)
def test_no_format_prints_a_secret(spec: Path, format: str, tmp_path: Path) -> None:
    text = as_text(report_of(spec, tmp_path), format)
    assert text
    assert not [secret for secret in SECRETS if secret in text]


def test_there_are_enough_of_them() -> None:
    assert len(SPECS) >= 60


def test_each_report_has_its_spec() -> None:
    assert {path.stem for path in BAD.glob("*.txt")} == {spec.stem for spec in SPECS}
