"""A runner of another package: installed, found by its entry point, built and served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "packages/mlspec-table-runner"
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: table, project: third-party}
model: {runner: table, table: {path: data}, default: nothing}
targets: [{name: here, platform: linux}]
tests:
  - {name: knows, predict: {key: one}, expect: {equals: eins}}
  - {name: does not know, predict: {key: two}, expect: {equals: nothing}}
"""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a folder of its own, as pip installs it."""
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "--no-deps", "--no-build-isolation", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(PACKAGE)], check=True)
    return folder


def mlspec(project: Path, installed: Path | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, [str(installed or ""), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "mlspec", *arguments]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/table.json").write_text('{"one": "eins"}')
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def test_it_is_built_and_served(project: Path, installed: Path) -> None:
    done = mlspec(project, installed, "test", "spec.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("2 passed, 0 failed\n")
    plan = json.loads((project / "build/third-party/table/here/plan.json").read_text())
    assert plan["runtime"]["runner"]["module"] == "mlspec_runtime.runners.table.runtime"
    assert {"key": "table.rows", "value": 1}.items() <= plan["decisions"][3].items()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("default: nothing", 'default: "?"'), "table/default"),
        (("default: nothing", "defualt: nothing"), "unknown-key"),
        (("path: data", "path: ."), "table/no-table"),
    ],
)
def test_its_own_rules_and_schema_hold(project: Path, installed: Path, change: tuple[str, str], code: str) -> None:
    (project / "spec.yaml").write_text(SPEC.replace(*change))
    done = mlspec(project, installed, "check", "spec.yaml", "--output-format", "json")
    assert done.returncode == 1
    assert [found["code"] for found in json.loads(done.stdout)] == [code]


def test_without_the_package_its_name_is_unknown(project: Path) -> None:
    done = mlspec(project, None, "check", "spec.yaml", "--output-format", "json")
    assert done.returncode == 1
    assert [found["code"] for found in json.loads(done.stdout)] == ["unknown-runner"]
