"""The whole command, killed: whatever the moment, each target has its old bundle or its new one."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from projects import example

pytestmark = pytest.mark.soak

BUILD = [sys.executable, "-m", "mlspec", "build", "specs/lora.yaml"]
KILLED = [sys.executable, str(Path(__file__).parent / "support/killed_build.py")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = example(tmp_path / "project")
    assert subprocess.run(BUILD, cwd=project, capture_output=True, check=False).returncode == 0
    return project


def assert_whole(project: Path) -> None:
    """Each bundle holds just the files that it lists, and its links lead to the models."""
    for target in ("mac", "linux", "linux-arm64"):
        place = project / "build/example/support-lora" / target
        listed = {*json.loads((place / "plan.json").read_text())["files"], "plan.json"}
        files = (path.relative_to(place) for path in place.rglob("*") if path.is_file())
        assert {str(path) for path in files if path.parts[0] != "models"} == listed
        assert (place / "models/base/config.json").is_file()


def left_over(project: Path) -> list[str]:
    return [path.name for path in (project / "build/example/support-lora").glob(".*")]


def test_killed_at_every_call_that_changes_the_disk(project: Path) -> None:
    call, ended = 0, False
    while not ended:
        call += 1
        code = subprocess.run([*KILLED, str(call)], cwd=project, capture_output=True, check=False).returncode
        ended = code == 0
        assert ended or code == -signal.SIGKILL
        assert_whole(project)
    assert call > 300
    assert left_over(project) == []


def test_killed_at_random_moments(project: Path) -> None:
    chance = random.Random(3)
    for _ in range(30):
        with subprocess.Popen(BUILD, cwd=project, stdout=subprocess.DEVNULL) as process:
            time.sleep(0.15 + chance.random() / 5)
            process.kill()
        assert_whole(project)
    assert subprocess.run(BUILD, cwd=project, capture_output=True, check=False).returncode == 0
    assert left_over(project) == []
