"""Models that a build quantizes: made once, of the bytes that were planned, and served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import served
from mlspec.model_files import tensors
from mlspec.serving import ask
from models.answers import greedy
from projects import example

pytestmark = pytest.mark.e2e

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: NAME, project: e2e}
model:
  runner: mlx-lm
  base: BASE
  quantization: QUANTIZATION
  sampling: {max_tokens: 24}
targets: [{name: here, platform: linux, machine: {memory_gb: 8, cpus: 2}}]
"""
TINY, SMOL = "tiny", "smol"
SPECS = {
    TINY: ("{path: specs/models/tiny}", "{bits: 4, group_size: 32}"),
    SMOL: ("{root: models, path: SMOLLM2}", "{bits: 8}"),
}
QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Project:
    """A project with the two specs, and a cache of its own."""

    root: Path
    cache: Path
    models: Path

    def mlspec(self, *arguments: str, converts: int = 0) -> str:
        """What the command prints; it must succeed, convert so many models and have nothing to complain of."""
        command = [sys.executable, "-m", "mlspec", *arguments, "--root", f"models={self.models}"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.cache)}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        told = done.stderr.splitlines()
        assert (done.returncode, len(told)) == (0, converts), done.stderr
        assert all(line.startswith("quantizing base to ") for line in told)
        return done.stdout

    def bundle(self, name: str) -> Path:
        return self.root / "build/e2e" / name / "here"

    def plan(self, name: str) -> dict[str, Any]:
        plan: dict[str, Any] = json.loads((self.bundle(name) / "plan.json").read_text())
        return plan


@pytest.fixture(scope="module")
def project(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Both specs, built."""
    root = example(tmp_path_factory.mktemp("quantized") / "project")
    (root / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    for name, (base, quantization) in SPECS.items():
        text = SPEC.replace("NAME", name).replace("BASE", base.replace("SMOLLM2", real_model[0].name))
        (root / f"{name}.yaml").write_text(text.replace("QUANTIZATION", quantization))
    made = Project(root, root.parent / "cache", real_model[0].parent)
    printed = made.mlspec("build", "tiny.yaml", "smol.yaml", converts=2)
    assert printed == "build/e2e/tiny/here\nbuild/e2e/smol/here\n"
    return made


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("name", SPECS)
def test_the_bytes_are_those_that_were_planned(project: Project, name: str) -> None:
    made = project.bundle(name) / "models/base"
    assert made.resolve().parent == project.cache / "mlspec/models"
    found = sum(tensor.size_bytes for tensor in tensors(made / "model.safetensors").values())
    weights = next(part for part in project.plan(name)["memory"]["parts"] if part["name"] == "weights")
    assert found == weights["bytes"]
    assert found < 0.3 * sum(facts["parameter_bytes"] for facts in project.plan(name)["facts"])


def test_a_second_build_converts_nothing(project: Project) -> None:
    made = (project.bundle(TINY) / "models/base").resolve()
    before = stamps(made)
    project.mlspec("build", "tiny.yaml")
    assert (project.bundle(TINY) / "models/base").resolve() == made
    assert stamps(made) == before
    assert len(list((project.cache / "mlspec/models").iterdir())) == 2


def test_compiling_and_checking_convert_nothing(project: Project, tmp_path: Path) -> None:
    other = Project(project.root, tmp_path / "cache", project.models)
    other.mlspec("check", "tiny.yaml")
    other.mlspec("build", "tiny.yaml", "--no-models", "-o", str(tmp_path / "out"))
    assert not (tmp_path / "cache/mlspec/models").exists()
    assert not (tmp_path / "out/e2e/tiny/here/models").exists()
    plan = (tmp_path / "out/e2e/tiny/here/plan.json").read_bytes()
    assert plan == (project.bundle(TINY) / "plan.json").read_bytes()


@pytest.fixture(scope="module", params=SPECS)
def service(request: pytest.FixtureRequest, project: Project) -> Iterator[tuple[str, Path]]:
    """A running service's URL, and its bundle."""
    bundle = project.bundle(request.param)
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with served(command, bundle, project.root.parent / f"{request.param}.log") as url:
        yield url, bundle


def test_it_answers_as_mlx_lm_does_with_what_was_made(service: tuple[str, Path]) -> None:
    url, bundle = service
    answer = ask(f"{url}/predict", {"prompt": QUESTION}, timeout_s=120)
    assert answer is not None
    assert answer.status == 200, answer.body
    (expected,) = greedy(bundle / "models/base", None, [QUESTION], max_tokens=24)
    assert (answer.body["tokens"], answer.body["text"]) == (expected.tokens, expected.text)
    if bundle.parent.name == SMOL:
        assert expected.text == "The capital of France is Paris."
