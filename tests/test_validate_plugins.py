"""A runner from a plug-in: its schema, its type and its rules are part of validate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlspec.diagnostics import Diagnostic, Report
from mlspec.passes.load import parse
from mlspec.passes.validate import validate

PLUGIN = """
from pydantic import BaseModel, ConfigDict

DEFS = "urn:mlspec:schema:mlspec:v1#/$defs/"


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid")
    runner: str
    table: dict[str, str]
    rows: int = 1


class Runner:
    runner_api = 1
    name = "table"
    tasks = ("predict",)
    model_type = Table

    def model_schema(self):
        return {
            "type": "object",
            "required": ["runner", "table"],
            "properties": {
                "runner": {"$ref": DEFS + "runner"},
                "task": {"type": "string"},
                "table": {"$ref": DEFS + "source"},
                "rows": {"type": "integer", "multipleOf": 2},
            },
        }

    def models(self, model):
        return ()

    def check(self, model, faults):
        if model.rows > 100:
            faults.error("too-many-rows", f"{model.rows} rows", ("rows",), help="at most 100")
        if model.rows == 4:
            faults.warning("few-rows", "only four rows", ("rows",))


PART = Runner()
OLD = Runner()
OLD.runner_api = 0
"""
ENTRY_POINTS = """\
[mlspec.runners]
table = table_plugin:PART
old = table_plugin:OLD
broken = table_plugin:MISSING
"""
HEAD = "apiVersion: mlspec/v1\nkind: ModelService\nmetadata: {name: shop, project: example}\n"


@pytest.fixture(autouse=True)
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "table_plugin.py").write_text(PLUGIN)
    metadata = tmp_path / "table_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: table-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("table_plugin", None)


def checked(model: str) -> tuple[object, list[Diagnostic]]:
    report = Report()
    document = parse(f"{HEAD}model: {model}\n", Path("spec.yaml"), "spec.yaml", report)
    assert document is not None
    return validate(document, report), list(report)


def codes(model: str) -> list[str]:
    return [fault.code for fault in checked(model)[1]]


def test_its_spec_is_valid() -> None:
    found, faults = checked("{runner: table, table: {path: a/b, x-note: 1}, rows: 2, x-mine: [1]}")
    assert not faults
    assert found is not None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("{runner: table}", ["missing-key"]),
        ("{runner: table, table: {path: ../b}}", ["path-outside"]),
        ("{runner: table, table: {pth: b}}", ["unknown-key"]),
        ("{runner: table, table: {path: b}, rows: 3}", ["bad-value"]),
        ("{runner: table, table: {path: b}, colour: red}", ["unknown-key"]),
        ("{runner: table, table: {path: b}, rows: 200}", ["too-many-rows"]),
        ("{runner: table, table: {path: b}, task: generate}", ["unknown-key"]),
        ("{runner: old}", ["broken-plugin"]),
        ("{runner: broken}", ["broken-plugin"]),
        ("{runner: tabel}", ["unknown-runner"]),
    ],
)
def test_its_faults_have_places(model: str, expected: list[str]) -> None:
    found, faults = checked(model)
    assert found is None
    assert [fault.code for fault in faults] == expected
    assert all(fault.span.line == 4 for fault in faults)


def test_a_warning_stops_nothing() -> None:
    found, faults = checked("{runner: table, table: {path: b}, rows: 4}")
    assert found is not None
    assert [(fault.code, fault.severity) for fault in faults] == [("few-rows", "warning")]


def test_an_unknown_runner_is_told_the_names_of_plug_ins() -> None:
    (fault,) = checked("{runner: tabel}")[1]
    assert "table" in fault.help
    assert fault.label == "did you mean 'table'?"
