"""The report's formats: how places are shown, and that each format keeps its own rules."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlspec.diagnostics import Diagnostic, Related, Report, Span
from mlspec.reporting import FORMATS, render
from mlspec.reporting.snippet import MAX_WIDTH, snippet

TEXT = "metadata:\n  nmae: shop\n  owner: \x1b[31mme\n"


def span(line: int = 2, column: int = 3, end_line: int = 2, end_column: int = 7, file: str = "a.yaml") -> Span:
    return Span(file, line, column, end_line, end_column)


def report_of(*found: Diagnostic) -> Report:
    report = Report()
    for diagnostic in found:
        report.add(diagnostic)
    return report


TYPO = Diagnostic("unknown-key", "'nmae' is not a key of metadata", span(), label="did you mean 'name'?")


def shown(report: Report, format: str = "text", text: str | None = TEXT, *, colour: bool = False) -> str:
    return render(report, format, read=lambda file: text, colour=colour)


def test_text() -> None:
    assert shown(report_of(TYPO)) == (
        "a.yaml:2:3: error[unknown-key]: 'nmae' is not a key of metadata\n"
        "   2 |   nmae: shop\n"
        "     |   ^^^^ did you mean 'name'?\n"
        "  help: mlspec explain unknown-key\n"
    )


def test_colours_change_nothing_else() -> None:
    warning = Diagnostic("few-rows", "few rows", span(), "warning", help="more")
    plain, coloured = (shown(report_of(TYPO, warning), colour=colour) for colour in (False, True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert coloured.count("\x1b[0m") == coloured.count("\x1b[") / 2


def test_without_the_file_the_words_remain() -> None:
    assert shown(report_of(TYPO), text=None) == (
        "a.yaml:2:3: error[unknown-key]: 'nmae' is not a key of metadata\n  help: mlspec explain unknown-key\n"
    )


def test_a_place_behind_the_end_of_the_file() -> None:
    assert "^" not in shown(report_of(Diagnostic("x", "y", span(9, 1, 9, 1))))


def test_a_second_place_and_the_sum() -> None:
    twice = Diagnostic("twice", "twice", span(), help="remove one", related=(Related(span(1, 1, 1, 9), "the first"),))
    text = shown(report_of(twice, TYPO, Diagnostic("w", "w", span(), "warning")))
    assert "  note: a.yaml:1:1: the first\n   1 | metadata:\n     | ^^^^^^^^\n  help: remove one\n" in text
    assert text.endswith("\n2 errors, 1 warning\n")


@pytest.mark.parametrize("format", FORMATS)
def test_control_characters_reach_no_terminal(format: str) -> None:
    hostile = "a\x1b]0;title\x07\u202e\u2028\x9b\udcff\r"
    found = Diagnostic(
        "x", hostile, span(3, 1, 3, 99, file=f"{hostile}.yaml"), "error", hostile, hostile, (Related(span(), hostile),)
    )
    text = shown(report_of(found), format)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", text)
    text.encode("utf-8")


@pytest.mark.parametrize("format", ["concise", "github"])
def test_one_line_a_diagnostic(format: str) -> None:
    found = Diagnostic("x", "two\nlines", span(), help="more\r\nlines")
    assert shown(report_of(found, TYPO), format).count("\n") == 2


@pytest.mark.parametrize(("format", "text"), [("text", ""), ("concise", ""), ("github", ""), ("json", "[]\n")])
def test_nothing_found(format: str, text: str) -> None:
    assert shown(Report(), format) == text


def test_an_unknown_format() -> None:
    with pytest.raises(ValueError, match="no format 'xml'"):
        render(Report(), "xml")


def test_json() -> None:
    record = {
        "code": "unknown-key",
        "severity": "error",
        "message": "'nmae' is not a key of metadata",
        "file": "a.yaml",
        "line": 2,
        "column": 3,
        "end_line": 2,
        "end_column": 7,
        "help": "did you mean 'name'?",
    }
    assert json.loads(shown(report_of(TYPO), "json")) == [record]


def test_github_escapes_by_its_rules() -> None:
    found = Diagnostic("x", "50%: a, b\nc", span(file="a:b,c%.yaml"), help="h")
    assert shown(report_of(found), "github") == (
        "::error file=a%3Ab%2Cc%25.yaml,line=2,endLine=2,col=3,endColumn=7,title=x::50%25: a, b%0Ac%0Ah\n"
    )
    several = Diagnostic("x", "m", span(1, 2, 3, 4), "warning")
    assert shown(report_of(several), "github").startswith("::warning file=a.yaml,line=1,endLine=3,title=x::")


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


COUNT = {"type": "integer", "minimum": 1}
MESSAGE = closed(["text"], text={"type": "string"}, markdown={"type": "string"})
LOCATION = closed(
    ["physicalLocation"],
    message=MESSAGE,
    physicalLocation=closed(
        ["artifactLocation", "region"],
        artifactLocation=closed(["uri"], uri={"type": "string", "pattern": r"^[!-~]+$"}),
        region=closed(["startLine"], startLine=COUNT, startColumn=COUNT, endLine=COUNT, endColumn=COUNT),
    ),
)
RULE = closed(["id"], id={"type": "string"}, shortDescription=MESSAGE, help=MESSAGE)
RESULT = closed(
    ["message"],
    ruleId={"type": "string"},
    ruleIndex={"type": "integer", "minimum": -1},
    level={"enum": ["none", "note", "warning", "error"]},
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    relatedLocations={"type": "array", "items": LOCATION},
)
DRIVER = closed(["name"], name={"type": "string"}, version={"type": "string"}, rules={"type": "array", "items": RULE})
RUN = closed(
    ["tool"],
    tool=closed(["driver"], driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
SARIF = closed(
    ["version", "runs"],
    **{"$schema": {"type": "string"}},
    version={"const": "2.1.0"},
    runs={"type": "array", "items": RUN},
)
"""What of SARIF 2.1.0's own schema the report uses."""


def test_sarif() -> None:
    related = Diagnostic("yaml-tab", "a tab", span(file="/dir/a b.yaml"), "warning", related=(Related(span(), "here"),))
    log = json.loads(shown(report_of(TYPO, related), "sarif"))
    Draft202012Validator(SARIF).validate(log)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["unknown-key", "yaml-tab"]
    assert [rules[result["ruleIndex"]] for result in run["results"]] == [r["ruleId"] for r in run["results"]]
    uris = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]]
    assert uris == ["file:///dir/a%20b.yaml", "a.yaml"]
    Draft202012Validator(SARIF).validate(json.loads(shown(Report(), "sarif")))


def test_marks_are_as_wide_as_the_text() -> None:
    found = snippet("日本: \t\x1b e\u0301x", 2, 6)
    assert found.text == "日本:     \\x1b e\u0301x"
    assert (found.indent, found.width) == (4, 1 + 1 + 4 + 4)
    assert snippet("日本: \t\x1b e\u0301x", 7, 9).width == 1


@pytest.mark.parametrize("start", [0, 5, 100, 109, 110, 111, 500, 990, 999, 1000])
@pytest.mark.parametrize("width", [0, 1, 50, 500])
@pytest.mark.parametrize("character", ["x", "日", "\x1b", "\u0301", "\t"])
def test_long_lines_are_cut_around_the_mark(start: int, width: int, character: str) -> None:
    found = snippet(character * 1000, start, start + width)
    assert found.width >= 1
    assert found.indent <= MAX_WIDTH + 1
    assert found.indent + found.width <= MAX_WIDTH + 3
    assert len(found.text) <= 2 * MAX_WIDTH + 2
    assert found.text.startswith("…") or start < MAX_WIDTH


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 2), (99, 100), (0, 99)])
def test_ranges_that_are_none(start: int, end: int) -> None:
    assert 1 <= snippet("abc", start, end).width <= 3
