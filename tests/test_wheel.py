"""The installed wheel, outside the checkout: it builds the example, and the same bytes on every Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def wheel() -> str:
    found = os.environ.get("MLSPEC_WHEEL")
    assert found, "set MLSPEC_WHEEL to a wheel: python -m build --wheel"
    return found


def run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built_example(python: str, wheel: str, folder: Path, seed: str) -> dict[str, bytes]:
    """The files of the example's bundles, built by this Python from the wheel in a folder of its own."""
    folder.mkdir(parents=True)
    run([python, "-m", "venv", "venv"], folder)
    run(["venv/bin/pip", "install", "-q", wheel], folder)
    project = folder / "a project"
    project.mkdir()
    mlspec = str(folder / "venv/bin/mlspec")
    run([mlspec, "init", "--example"], project)
    run([mlspec, "build", "specs"], project, PYTHONHASHSEED=seed, TZ="Asia/Tokyo", LC_ALL="C")
    build = project / "build"
    links = [p for p in build.rglob("models/*") if p.is_symlink()]
    assert links
    files = (p for p in build.rglob("*") if p.is_file() and "models" not in p.relative_to(build).parts)
    return {str(p.relative_to(build)): p.read_bytes() for p in files}


def test_the_wheel_builds_the_example_and_every_python_the_same_bytes(wheel: str, tmp_path: Path) -> None:
    first = built_example(sys.executable, wheel, tmp_path / "one", "1")
    assert "example/support-lora/linux/service.py" in first
    other = os.environ.get("MLSPEC_OTHER_PYTHON")
    assert other, "set MLSPEC_OTHER_PYTHON to a Python of another minor version"
    assert built_example(other, wheel, tmp_path / "two/deeper", "4711") == first


def test_a_light_install_has_nothing_heavy(wheel: str, tmp_path: Path) -> None:
    run([sys.executable, "-m", "venv", "venv"], tmp_path)
    run(["venv/bin/pip", "install", "-q", wheel], tmp_path)
    installed = run(["venv/bin/pip", "list", "--format=freeze"], tmp_path).lower()
    assert not [name for name in ("bentoml", "mlx", "torch", "numpy", "transformers") if f"\n{name}==" in installed]
