"""A runner is its folder: without it nothing else is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mlspec
from mlspec import plugins
from mlspec.resources import folder
from projects import example, with_spec

PACKAGES = Path(mlspec.__file__).parents[1]
RUNNERS = sorted(file.parent.name for file in (PACKAGES / "mlspec/runners").glob("*/build.py"))
OTHER_NAMES = {"mlx_lm": ("lora",)}
"""Runners that are another's under a second name: they go with it."""
SPECS = {"iris": "python", "chat": "mlx_lm"}
"""Two shipped specs, and whose they are: where one's runner is removed, the other must build."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages as a wheel has them."""
    place = tmp_path_factory.mktemp("copied")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("mlspec", "mlspec_runtime"):
        shutil.copytree(PACKAGES / name, place / name, ignore=ignored)
    for name in ("schema", "templates", "specs"):
        shutil.copytree(folder(name), place / "mlspec" / name, ignore=ignored)
    return place


@pytest.fixture
def without(copy: Path, tmp_path: Path, runner: str) -> Path:
    """The same without a runner's folder."""
    shutil.copytree(copy, tmp_path / "packages")
    shutil.rmtree(tmp_path / "packages/mlspec/runners" / runner)
    return tmp_path / "packages"


COMMANDS = """
import contextlib, io, json, sys
from mlspec.cli import main
answers = []
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(arguments)
    answers.append([code, out.getvalue(), errors.getvalue()])
print(json.dumps(answers))
"""


def run(packages: Path, project: Path, *commands: list[str]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each command, all in one process."""
    command = [sys.executable, "-P", "-c", COMMANDS, json.dumps(commands)]
    environment = {**os.environ, "PYTHONPATH": str(packages), "MLSPEC_DEBUG": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(answer) for answer in json.loads(done.stdout)]


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_removed_runner_is_unknown_and_all_else_works(without: Path, runner: str, tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    gone = [name.replace("_", "-") for name in (runner, *OTHER_NAMES.get(runner, ()))]
    left = sorted(set(plugins.names("runners")) - set(gone))
    text = (project / "specs/chat.yaml").read_text()
    specs = [with_spec(project, text.replace("mlx-lm", name, 1), f"{name}.yaml") for name in gone]
    other = next(f"specs/{name}.yaml" for name, folder in SPECS.items() if folder != runner)
    works = [["check", other], ["plan", other], ["build", other, "--no-models"], ["schema"]]
    refused = [["check", spec.name, "--output-format", "json"] for spec in specs]
    answers = run(without, project, *works, *refused)
    assert [code for code, _, _ in answers] == [0] * len(works) + [1] * len(gone), answers
    for name, (_, out, _) in zip(gone, answers[len(works) :], strict=True):
        (fault,) = (fault for fault in json.loads(out) if fault["code"] == "unknown-runner")
        assert fault["message"] == f"there is no runner '{name}'"
        assert f"known here: {', '.join(left)};" in fault["help"]


@pytest.mark.parametrize("runner", ["mlx_lm"])
def test_a_first_spec_needs_no_runner_but_its_own(without: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    in_x, alone, package = run(without, tmp_path, ["init", "x"], ["init"], ["init", "--runner", "mlx-lm"])
    assert (in_x[0], "x: no model that a runner here knows" in in_x[2]) == (1, True), in_x
    assert (alone[0], "mlspec init MODEL_DIR" in alone[2]) == (2, True), alone
    assert package[0] == 0, package
