"""The command line: exit codes, and output that can't be written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlspec.cli import parser
from projects import example

MLSPEC = [sys.executable, "-m", "mlspec"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return example(tmp_path / "a project")


def run(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MLSPEC, *arguments],
        cwd=project,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def shell(project: Path, command: str) -> int:
    """The exit code of a bash command in which `mlspec` is the command line."""
    script = f'mlspec() {{ {sys.executable} -m mlspec "$@"; }}; {command}'
    return subprocess.run(["bash", "-c", script], cwd=project, capture_output=True, check=False).returncode


def spoil(project: Path) -> None:
    spec = project / "specs/lora.yaml"
    spec.write_text(spec.read_text().replace("  base:", "  bsae:"))


def test_exit_codes(project: Path) -> None:
    assert run(project, "build", "specs").returncode == 0
    assert run(project, "build").returncode == 2
    assert run(project, "build", "").returncode == 2
    assert run(project, "serve", "specs/lora.yaml", "--port", "70000").returncode == 2
    assert run(project, "check", "specs", "--root", "x=~nobody-of-this-name/y").returncode == 2
    assert run(project, "check", "nowhere.yaml").returncode == 1
    (project / "taken").write_text("a file")
    assert run(project, "build", "specs/lora.yaml", "-o", "taken").returncode == 3
    spoil(project)
    assert run(project, "build", "specs/lora.yaml").returncode == 1


def test_a_bug_of_ours_has_its_own_code_and_says_how_to_report_it(project: Path) -> None:
    script = (
        "import sys; from mlspec.commands import check; "
        "check.run = lambda options: 1 / 0; from mlspec.cli import main; sys.exit(main(['check', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "internal error: ZeroDivisionError" in done.stderr
    assert "Please report it" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_a_list_of_findings_with_places(project: Path) -> None:
    assert json.loads(run(project, "check", "specs", "--output-format", "json").stdout) == []
    spoil(project)
    done = run(project, "build", "specs/lora.yaml", "--output-format", "json")
    found = json.loads(done.stdout)
    assert [(f["code"], f["file"], f["line"], f["column"]) for f in found] == [
        ("unknown-key", "specs/lora.yaml", 12, 3)
    ]
    assert set(found[0]) == {
        *("code", "severity", "message", "file", "line", "column", "end_line", "end_column", "help"),
    }


def test_a_reader_that_goes_away_stops_nothing(project: Path) -> None:
    assert shell(project, "mlspec build specs/lora.yaml | true; exit ${PIPESTATUS[0]}") == 0
    assert len(list((project / "build/example/support-lora").iterdir())) == 3
    spoil(project)
    assert shell(project, "mlspec check specs/lora.yaml | true; exit ${PIPESTATUS[0]}") == 1


@pytest.mark.parametrize(("where", "code"), [(">&-", 0), ("2>&-", 0), (">/dev/full", 3)])
def test_output_that_cannot_be_written(project: Path, where: str, code: int) -> None:
    assert shell(project, f"mlspec build specs/lora.yaml {where}") == code
    assert len(list((project / "build/example/support-lora").iterdir())) == 3


def test_a_poor_locale(project: Path) -> None:
    spec = project / "specs/lora.yaml"
    spec.write_text(spec.read_text().replace("  base:", "  größe: 1\n  base:"))
    done = run(project, "check", "specs/lora.yaml", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 1
    assert "error[unknown-key]" in done.stdout


def test_the_working_folder_was_deleted(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f"cd {tmp_path}/gone && rmdir ../gone && mlspec build x.yaml"
    assert shell(tmp_path, command) == 1


def test_a_folder_means_its_specs_and_not_its_bundles(project: Path) -> None:
    (project / "note.yaml").write_text("just: a note\n")
    specs = [YAML(typ="safe").load(path) for path in (project / "specs").glob("*.yaml")]
    for _ in range(2):
        done = run(project, "build", ".")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == sum(len(spec["targets"]) for spec in specs)


def test_a_template_cache_that_is_full_or_in_the_way(project: Path) -> None:
    (project / "cache").write_text("a file")
    assert run(project, "build", "specs/lora.yaml", XDG_CACHE_HOME=str(project / "cache")).returncode == 0
    assert run(project, "build", "specs/lora.yaml", XDG_CACHE_HOME="relative").returncode == 0
    assert not (project / "relative").exists()


def test_version_and_help() -> None:
    assert subprocess.run([*MLSPEC, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "mlspec "
    )
    assert (
        "exit codes: 0 fine" in subprocess.run([*MLSPEC, "--help"], capture_output=True, text=True, check=True).stdout
    )


WHY = {"spec": Path("a.yaml"), "key": "model.kv_bits", "target": "linux"}
INIT = {"model": Path("dir"), "name": "shop"}


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ("why a.yaml --target linux model.kv_bits", WHY),
        ("why --target linux a.yaml model.kv_bits", WHY),
        ("why a.yaml model.kv_bits --target linux", WHY),
        ("why --target=linux a.yaml --root w=/x model.kv_bits", WHY),
        ("why a.yaml --target linux", {**WHY, "key": None}),
        ("init --name shop dir", INIT),
        ("init dir --name shop", INIT),
        ("init --name shop", {**INIT, "model": None}),
        ("machine show --output-format json mini", {"action": "show", "name": "mini", "output_format": "json"}),
        ("build a.yaml --target linux b.yaml", {"specs": [Path("a.yaml"), Path("b.yaml")], "target": "linux"}),
        ("schema", {"kind": "mlspec"}),
        ("build -- -a.yaml", {"specs": [Path("-a.yaml")]}),
        ("bench a.yaml", {"spec": Path("a.yaml"), "requests": None, "concurrency": [1, 2, 4, 8]}),
    ],
)
def test_arguments_in_any_order(arguments: str, parsed: dict[str, object]) -> None:
    found = vars(parser().parse_args(arguments.split()))
    assert {name: found[name] for name in parsed} == parsed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("why", "usage: mlspec why [-h] [--target NAME] [--root NAME=DIR] SPEC [KEY]"),
        ("why", "the following arguments are required: SPEC"),
        ("why a.yaml b c", "unrecognized arguments: c"),
        ("schema nothing", "invalid choice: 'nothing'"),
        ("bench a.yaml --requests 3 --duration 3", "not allowed with argument"),
        ("build", "the following arguments are required: SPEC"),
        ("build --targt x a.yaml", "unrecognized arguments: --targt"),
    ],
)
def test_arguments_that_are_wrong(arguments: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments.split())
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["schema --help", "why --help", "why a.yaml --target x model.kv_bits --help"])
def test_help_names_the_positional_arguments(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(arguments.split())
    assert ended.value.code == 0
    assert re.search(r"^positional arguments:\n  (SPEC\n  KEY|\{mlspec,)", capsys.readouterr().out, re.M)
