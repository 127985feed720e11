"""`mlspec templates`: what is ejected changes nothing until it is edited, and each refusal says why."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from mlspec.commands import explain
from mlspec.commands.templates import run
from mlspec.errors import CommandError
from projects import built, example

NAMES = (
    "bentoml/README.md.j2",
    "bentoml/linux/Dockerfile.j2",
    "bentoml/linux/dockerignore.j2",
    "bentoml/service.py.j2",
)
PROJECT = "apiVersion: mlspec/v1\nkind: Project\n"


def templates(action: str, name: str | None = None) -> int:
    return run(Namespace(action=action, name=name))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (example(tmp_path) / "mlspec.yaml").write_text(PROJECT + "templates: own\n")
    (tmp_path / "own").mkdir()
    return tmp_path


def bundles(project: Path) -> dict[str, bytes]:
    return [built(project, project / "specs" / name) for name in ("lora.yaml", "chat.yaml", "iris.yaml")][-1]


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert templates("list") == 0
    assert tuple(capsys.readouterr().out.splitlines()) == NAMES
    assert templates("show", NAMES[0]) == 0
    assert capsys.readouterr().out.startswith("# {{ given.name | md }}")


def test_ejected_templates_give_the_bytes_of_the_built_in_ones(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = bundles(project)
    for name in NAMES:
        assert templates("eject", name) == 0
        assert capsys.readouterr().out == f"own/{name}\n"
    assert bundles(project) == before


def test_lines_beside_the_built_in_ones(project: Path) -> None:
    name = "bentoml/linux/Dockerfile.j2"
    assert templates("eject", name) == 0
    file = project / "own" / name
    head, command = file.read_text().split("{% block command %}\n")
    file.write_text(f"{head}{{% block command %}}\n# above\n" + command.replace("{% endblock", "# below\n{% endblock"))
    files = built(project, project / "specs/chat.yaml")
    text = next(content for path, content in files.items() if path.endswith("linux/Dockerfile")).decode()
    assert text.endswith('"]\n# below\n')
    assert "]\n# above\n# `exec`: the server" in text


def test_an_ejected_template_is_not_overwritten(project: Path) -> None:
    assert templates("eject", NAMES[0]) == 0
    with pytest.raises(CommandError, match=r"^own/bentoml/README\.md\.j2 is there already"):
        templates("eject", NAMES[0])


def test_a_faulty_project_file_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "mlspec.yaml").write_text(PROJECT + "template: own\n")
    assert templates("eject", NAMES[0]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "mlspec.yaml:3:1: error[unknown-key]: 'template' is not a key" in printed.err


def test_a_project_without_a_folder_for_templates(project: Path) -> None:
    (project / "mlspec.yaml").write_text(PROJECT)
    with pytest.raises(CommandError) as caught:
        templates("eject", NAMES[0])
    assert caught.value.help == "add the line  templates: FOLDER  to mlspec.yaml at the project's root"


@pytest.mark.parametrize(("action", "name"), [("show", None), ("eject", None), ("list", "extra")])
def test_wrong_usage(action: str, name: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert templates(action, name) == 2
    assert capsys.readouterr().err.startswith("error[usage]: ")


@pytest.mark.parametrize("name", ["bentoml/linux/Dockerfile", "dockerfile", "BENTOML/LINUX/DOCKERFILE.J2", "Dockrfile"])
def test_a_template_of_another_name(name: str) -> None:
    with pytest.raises(CommandError) as caught:
        templates("show", name)
    assert caught.value.code == "no-such-template"
    wanted = "mlspec templates list shows all" if name == "Dockrfile" else f"did you mean '{NAMES[1]}'?"
    assert caught.value.help == wanted


@pytest.mark.parametrize("code", ["UNKNOWN-KEY", "unknown_key", "unknow-key"])
def test_a_code_in_other_letters(code: str) -> None:
    with pytest.raises(CommandError) as caught:
        explain.run(Namespace(code=code))
    assert caught.value.help == "did you mean 'unknown-key'?"
