"""`mlspec bench --calibrate`: the file that it writes beside a spec, and what the plan takes from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mlspec.bench.calibrating import ROWS, calibration_text
from mlspec.cli import main
from mlspec.diagnostics import Report
from mlspec.model.calibration import Calibration
from mlspec.passes.load import parse
from mlspec.pipeline import check
from mlspec.resources import folder
from mlspec.workspace import Surroundings
from projects import example

SPEC, FILE = Path("specs/iris.yaml"), Path("specs/iris.calibration.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(example(tmp_path / "project"))
    SPEC.write_text(SPEC.read_text().replace("targets:", "service:\n  batching: {max_wait_ms: 1}\ntargets:", 1))
    return tmp_path / "project"


def _measured() -> dict[str, object]:
    report = Report()
    document = parse(FILE.read_text(), FILE, str(FILE), report)
    assert document is not None
    assert not list(report)
    data: dict[str, object] = document.data
    return data


def _edit(**changes: object) -> None:
    FILE.write_text(json.dumps({**_measured(), **changes}))


def _codes(project: Path) -> list[str]:
    report = Report()
    check([project / SPEC], Surroundings({}, project, project / "home"), report)
    return [found.code for found in report]


def test_what_is_measured_is_what_the_plan_takes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(SPEC), "--calibrate", "--output-format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["rows"] for point in told["points"]] == list(ROWS)
    assert all(point["seconds"] > 0 and point["memory_bytes"] > 2**20 for point in told["points"])
    assert (told["file"], told["target"], told["max_rows"]) == (str(FILE), "linux", told["max_rows"])
    data = _measured()
    Draft202012Validator(json.loads((folder("schema") / "calibration.schema.json").read_text())).validate(data)
    assert data["spec"] == "iris.yaml"
    assert main(["why", str(SPEC), "service.batching.max_rows", "--target", "linux"]) == 0
    why = capsys.readouterr().out
    assert f"service.batching.max_rows: {told['max_rows']}" in why
    assert "measured: " in why
    assert f"{FILE}: linux, points" in why
    assert _codes(project) == []


def test_a_table_for_people(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SPEC.write_text(SPEC.read_text().partition("tests:")[0])
    assert main(["bench", str(SPEC), "--calibrate"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rows", "ms", "a", "call", "rows/s", "memory"]
    assert [line.split()[0] for line in lines[1:8]] == list(map(str, ROWS))
    assert lines[9] == f"written to {FILE}"
    assert lines[10].startswith("service.batching.max_rows: ")


def test_other_code_or_another_model_is_not_what_was_measured(project: Path) -> None:
    assert main(["bench", str(SPEC), "--calibrate"]) == 0
    module, centroids = Path("specs/models/iris/model.py"), Path("specs/models/iris/artifacts/centroids.json")
    for path in (module, centroids):
        before = path.read_text()
        path.write_text(before + "\n")
        assert _codes(project) == ["stale-calibration"]
        path.write_text(before)
    SPEC.write_text("# a remark changes nothing\n" + SPEC.read_text())
    assert _codes(project) == []
    SPEC.write_text(SPEC.read_text().replace("class: Iris", "class: Iris\n  requirements: []"))
    assert _codes(project) == ["stale-calibration"]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "Machine"},
        {"spec": "other.yaml"},
        {"targets": []},
        {"targets": [{"target": "linux"}]},
        {"more": 1},
    ],
)
def test_a_file_of_no_use_is_a_fault(project: Path, changes: dict[str, object]) -> None:
    assert main(["bench", str(SPEC), "--calibrate"]) == 0
    _edit(**changes)
    assert _codes(project) == ["bad-calibration"]


def test_it_is_no_spec_of_a_folder(project: Path) -> None:
    assert main(["bench", str(SPEC), "--calibrate"]) == 0
    assert main(["check", "specs"]) == 0


def test_a_link_out_of_the_project_is_not_followed(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text("kind: Calibration")
    FILE.symlink_to(outside)
    assert _codes(project) == ["bad-calibration"]


@pytest.mark.parametrize(
    ("spec", "arguments", "told"),
    [
        ("specs/lora.yaml", [], "only models of tensors are calibrated"),
        ("specs/iris.yaml", ["--url", "http://127.0.0.1:1"], "leave --url out"),
    ],
)
def test_what_can_not_be_measured(
    project: Path, spec: str, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", spec, "--calibrate", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_model_that_fails_says_why(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module = Path("specs/models/iris/model.py")
    module.write_text(module.read_text().replace("distances =", "raise OSError('no such flower')\n        distances ="))
    assert main(["bench", str(SPEC), "--calibrate"]) == 3
    told = capfd.readouterr().err
    assert "batches of 1 were left out: OSError: no such flower" in told
    assert "error[not-calibrated]" in told
    assert not FILE.exists()


def test_the_text_reads_back(project: Path) -> None:
    one = Calibration("a", "linux", "cpu", "", 'a "computer"', "0" * 64, ())
    two = Calibration("b", "macos", "metal", "Mac", "Mac", "1" * 64, ())
    FILE.write_text(calibration_text("iris.yaml", [two, one]))
    targets = _measured()["targets"]
    assert isinstance(targets, list)
    assert [Calibration.from_data(entry) for entry in targets] == [one, two]
