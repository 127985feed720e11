"""The images of the tests, each built once, and what was measured on the way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container.base_image import root_filesystem
from container.engine import Engine, engine
from container.machine import MachineError, install_tools
from models.smollm2 import default_cache

ROOT = Path(__file__).resolve().parents[2]
SECRET = "d41f7c0ffee-not-for-images"
"""A value that lies beside the bundle and in the environment of the build, and must not be in an image."""

_MEASURED = pytest.StashKey[list[str]]()
Measure = Callable[[str], None]


@pytest.fixture(scope="session")
def measure(pytestconfig: pytest.Config) -> Measure:
    """Say something in the summary."""
    return pytestconfig.stash.setdefault(_MEASURED, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    for line in config.stash.get(_MEASURED, []):
        terminalreporter.write_line(f"container: {line}")


@pytest.fixture(scope="session")
def cache() -> Path:
    return default_cache()


@pytest.fixture(scope="session", autouse=True)
def wanted() -> None:
    """Only who says so goes without these tests."""
    if os.environ.get("MLSPEC_CONTAINER_TESTS") == "off":
        pytest.skip("MLSPEC_CONTAINER_TESTS=off")


@pytest.fixture(scope="session")
def containers() -> Iterator[Engine]:
    """buildah and podman, installed if they aren't; a failure, and no silence, where that can't be."""
    try:
        install_tools()
    except MachineError as problem:
        pytest.fail(str(problem), pytrace=False)
    with engine() as made:
        yield made


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of specs/lora.yaml for Linux, as its operator may have it: with things laid beside."""
    out = tmp_path_factory.mktemp("bundles")
    built = build_bundle(ROOT, "specs/lora.yaml", out)
    (built / ".env").write_text(f"API_KEY={SECRET}\n")
    (built / ".venv").mkdir()
    (built / ".venv/pyvenv.cfg").write_text(SECRET)
    (built / "mlspec_runtime/__pycache__").mkdir()
    (built / "mlspec_runtime/__pycache__/app.cpython-311.pyc").write_text(SECRET)
    return built


@pytest.fixture(scope="session")
def image(containers: Engine, bundle: Path, cache: Path, measure: Measure) -> str:
    """The image of the bundle of specs/lora.yaml."""
    base = re.findall(r"^FROM (\S+)", (bundle / "Dockerfile").read_text(), re.MULTILINE)[-1]
    began_at = time.monotonic()
    containers.podman("import", "--quiet", str(root_filesystem(base, cache)), base)
    measure(f"base image of {containers.size_bytes(base) / 1e6:.0f} MB made in {time.monotonic() - began_at:.0f} s")
    began_at = time.monotonic()
    built = build_image(containers, bundle, "support-lora:linux")
    measure(f"image of {containers.size_bytes(built) / 1e6:.0f} MB built in {time.monotonic() - began_at:.0f} s")
    return built


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for /models: one below it for each role."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "specs/models/tiny", folder / "base")
    shutil.copytree(ROOT / "specs/models/tiny-support", folder / "adapters/support")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def build_bundle(project: Path, spec: str, out: Path) -> Path:
    """The bundle of a spec's target `linux`, by the command line, and readable for its owner alone."""
    command = [sys.executable, "-m", "mlspec", "build", spec, "-o", str(out), "--target", "linux"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    built = next(out.rglob("plan.json")).parent
    for path in [built, *built.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o700 if path.is_dir() else 0o600)
    return built


def build_image(containers: Engine, bundle: Path, name: str) -> str:
    """Build as `docker build -t NAME .` does, but with all dates equal: byte code that goes by them is stale then."""
    containers.build("bud", "--layers", "--pull=never", "--timestamp", "0", "--tag", name, str(bundle))
    return name
