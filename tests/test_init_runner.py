"""A runner's project: written whole for any name that can be one, and never in place of something."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from argparse import Namespace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlspec.commands.init import run
from mlspec.errors import CommandError
from mlspec.starting.runner_project import write_runner


@pytest.mark.parametrize("name", ["linear", "my-own-runner", "a", "x9-9", "a" * 30])
def test_a_project_of_any_name_is_whole(tmp_path: Path, name: str) -> None:
    written = write_runner(name, None, tmp_path)
    root = tmp_path / f"mlspec-{name}-runner"
    package = f"mlspec_{name.replace('-', '_')}_runner"
    assert {path for path in root.rglob("*") if path.is_file()} == set(written.paths)
    for path in root.rglob("*.py"):
        text = path.read_text()
        ast.parse(text)
        assert max(map(len, text.splitlines())) <= 120 + len(name)
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["mlspec.runners"] == {name: f"{package}.build:RUNNER"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"src/{package}"]
    assert YAML(typ="safe").load((root / f"specs/{name}.yaml").read_text())["model"]["runner"] == name
    assert "{{" not in "".join(path.read_text() for path in root.rglob("*") if path.is_file())


def test_it_is_formatted_and_has_no_fault_for_ruff(tmp_path: Path) -> None:
    write_runner("linear", Path("x"), tmp_path)
    for arguments in (["check", "--select", "E,F,W,I,UP,B"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--line-length", "120", "."]
        done = subprocess.run(command, cwd=tmp_path / "x", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name", ["", "Linear", "9lives", "a_b", "a--b", "-a", "a-", "a b", "a\n", "ä", "../a", "a" * 31, "{{ 1 }}"]
)
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(CommandError) as caught:
        write_runner(name, None, tmp_path)
    assert (caught.value.code, list(tmp_path.iterdir())) == ("bad-name", [])
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(("name", "why"), [("class", "word of the Python"), ("list", "word"), ("python", "already")])
def test_a_name_that_is_taken(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        write_runner(name, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_writes_into_an_empty_folder_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert write_runner("linear", Path("empty"), tmp_path).paths[0] == tmp_path / "empty/pyproject.toml"
    for place in ("full", "file", "empty"):
        with pytest.raises(CommandError, match="is there already") as caught:
            write_runner("linear", Path(place), tmp_path)
        assert caught.value.code == "file-exists"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"model": None, "out": None, "name": None, "example": False, "runner": "linear"}
    assert run(Namespace(**options)) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "mlspec-linear-runner/pyproject.toml"
    assert printed.err == "now: cd mlspec-linear-runner && python -m pip install -e '.[dev]' && python -m pytest\n"
    for wrong in ({"example": True}, {"name": "x"}, {"out": Path("x")}):
        assert run(Namespace(**{**options, **wrong})) == 2
        assert "--runner takes no" in capsys.readouterr().err
