"""What `mlspec init --runner` writes works as it stands: it installs, its types are right, it builds and serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    run(place, place, "-m", "mlspec", "init", "--runner", "two-words")
    return place / "mlspec-two-words-runner"


@pytest.fixture(scope="module")
def site(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package in a folder of its own, as pip installs it."""
    folder = tmp_path_factory.mktemp("site")
    install = ["-q", "--no-deps", "--no-build-isolation", "--target", str(folder), "."]
    run(project, folder, "-m", "pip", "install", *install)
    return folder


def run(place: Path, site: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(project: Path, site: Path) -> None:
    """They build and serve its example, too."""
    assert "4 passed" in run(project, site, "-m", "pytest", "-p", "no:cacheprovider")


def test_its_types_are_right(project: Path, site: Path) -> None:
    """By the line of its README, which is the command alone: what is checked, and how strictly, is its project's."""
    assert "\nmypy\n" in (project / "README.md").read_text()
    assert "no issues found in 3 source files" in run(project, site, "-m", "mypy")


def test_it_is_planned_and_built_like_a_built_in_one(project: Path, site: Path) -> None:
    assert "two-words.columns" in run(project, site, "-m", "mlspec", "why", "specs/two-words.yaml", "--target", "linux")
    run(project, site, "-m", "mlspec", "build", "specs/two-words.yaml")
    bundle = project / "build/runners/two-words/linux"
    assert (bundle / "mlspec_runtime/runners/two_words/runtime.py").is_file()
    assert not (bundle / "mlspec_runtime/runners/two_words/build.py").exists()
