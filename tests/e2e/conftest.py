"""A real model in a project of its own, and servers to ask."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlspec.serving import free_port, running, wait_until_healthy
from models import smollm2

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: smol, project: e2e, description: "SmolLM2 with an adapter", labels: {team: "no"}}
model:
  runner: lora
  base: {root: models, path: BASE}
  adapters: [{name: support, root: models, path: ADAPTER}]
  sampling: {max_tokens: 32}
service:
  concurrency: 8
  env: [{name: GREETING, value: "it's 100 % \\"fine\\" $HOME"}]
targets: [{name: here, platform: linux}]
"""


@pytest.fixture(scope="session")
def real_model() -> tuple[Path, Path]:
    """SmolLM2-135M-Instruct and an adapter for it, made once and kept."""
    return smollm2.prepared()


@pytest.fixture(scope="session")
def bundle(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the real model, built by the command line."""
    base, adapter = real_model
    project = tmp_path_factory.mktemp("project")
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    spec = SPEC.replace("BASE", base.name).replace("ADAPTER", str(adapter.relative_to(base.parent)))
    (project / "smol.yaml").write_text(spec)
    command = [sys.executable, "-m", "mlspec", "build", "smol.yaml", "--root", f"models={base.parent}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "build/e2e/smol/here\n"
    return project / "build/e2e/smol/here"


@contextmanager
def served(command: list[str], folder: Path, log: Path) -> Iterator[str]:
    """The URL of a healthy service; `command` gets `--port`."""
    port = free_port()
    with log.open("w+b") as output, running([*command, "--port", str(port)], folder, output) as process:
        wait_until_healthy(process, f"http://127.0.0.1:{port}", 300)
        yield f"http://127.0.0.1:{port}"
