"""docs/runners.md and docs/python.md, followed to the letter: a runner in a package of its own, and a class."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.conftest import served
from followed import OF_THE_REPOSITORY, ROOT, blocks, follow, write
from mlspec.serving import ask

DOCUMENT = "runners.md"
HERE = "mac" if sys.platform == "darwin" else "linux"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document's files, each at the path that stands above it."""
    place = tmp_path_factory.mktemp("followed") / "mlspec-tree-runner"
    write(DOCUMENT, place)
    return place


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip installs, in place of the environment that the tests run in."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def followed(project: Path, site: Path) -> dict[str, str]:
    """What each command of the document printed. Pip takes what is there, and asks nobody for more."""
    pip = {"PIP_TARGET": str(site), "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_QUIET": "1"}
    return follow(DOCUMENT, project, PYTHONPATH=str(site), **pip)


def test_its_commands_do_what_they_say(followed: dict[str, str], project: Path) -> None:
    words = {line.split()[1]: text for line, text in followed.items()}
    assert "tree.nodes" in words["why"]
    assert "counted" in words["why"]
    assert "flowers" in words["plan"]
    assert words["test"].endswith("2 passed, 0 failed\n")
    assert re.search(r"\b8\b.*\d", words["bench"])
    assert (project / "specs/flowers.lock.yaml").is_file()


def test_the_bundle_serves_without_the_package(followed: dict[str, str], project: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    bundle = project / "build/trees/flowers" / HERE
    with served(command, bundle, tmp_path / "served.log") as url:
        answer = ask(f"{url}/predict", {"inputs": {"x": [[5.0, 1.0]]}})
        assert answer is not None
        assert (answer.status, answer.body["outputs"]["class"]) == (200, [1]), answer.body


def test_it_is_packed_as_a_bento(followed: dict[str, str], project: Path, tmp_path: Path) -> None:
    home = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "true"}
    build = [sys.executable, "-m", "bentoml", "build", "--output", "tag"]
    bundle = project / "build/trees/flowers" / HERE
    done = subprocess.run(build, cwd=bundle, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "home/bentos").rglob("mlspec_runtime/runners/tree/runtime.py"))


def test_its_types_are_right(project: Path, site: Path, followed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "src/mlspec_tree_runner"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_wrong_spec_of_it_is_told_by_its_own_codes(project: Path, site: Path, followed: dict[str, str]) -> None:
    spec = project / "specs/wrong.yaml"
    spec.write_text((project / "specs/flowers.yaml").read_text().replace("[setosa, versicolor, virginica]", "[a, b]"))
    command = [sys.executable, "-m", "mlspec", "check", "specs/wrong.yaml", "--output-format", "concise"]
    done = subprocess.run(
        command, cwd=project, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False
    )
    spec.unlink()
    assert done.returncode == 1
    assert "error[tree/labels]: 2 labels for 3 classes" in done.stdout


def test_the_documents_other_runner_is_the_one_that_is_tested() -> None:
    ((path, text),) = ((path, text) for path, text in blocks(DOCUMENT).items() if path.startswith(OF_THE_REPOSITORY))
    assert (ROOT / path).read_text(encoding="utf-8") == text


def test_the_page_about_a_class_of_ones_own(tmp_path: Path) -> None:
    write("python.md", tmp_path)
    printed = follow("python.md", tmp_path)
    assert printed["mlspec test specs/prices.yaml"].endswith("1 passed, 0 failed\n")
    bundle = tmp_path / "build/shop/prices" / HERE
    assert sorted(path.name for path in bundle.glob("user/shop/*.py")) == ["__init__.py", "prices.py", "rounding.py"]
