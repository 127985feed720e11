"""Adapters in PEFT's format, converted by a build: mlx_lm does with them what PEFT would, and a service answers so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.conftest import served
from mlspec.runners.mlx_lm.peft.converting import convert
from mlspec.serving import ask
from models import peft, smollm2
from models.answers import Answer, greedy

pytestmark = pytest.mark.e2e

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: smol, project: peft}
model:
  runner: lora
  base: {root: models, path: BASE}
  adapters: [{name: support, path: support}, {name: own, root: models, path: OWN}]
  sampling: {max_tokens: 24}
targets: [{name: here, platform: linux}]
"""
QUESTIONS = ["Where is my lamp?", "How do I pay for the gift card?", "What is the capital of France?"]
PATH = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def rewritten(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose adapter `support` is the trained one in PEFT's format."""
    base, adapter = real_model
    project = tmp_path_factory.mktemp("peft")
    peft.as_peft(adapter, project / "support", base_model_name_or_path=smollm2.NAME)
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    (project / "smol.yaml").write_text(SPEC.replace("BASE", base.name).replace("OWN", adapter.name))
    command = [sys.executable, "-m", "mlspec", "build", "smol.yaml", "--root", f"models={base.parent}"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(project / "cache")}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "build/peft/smol/here\n"), done.stderr
    assert done.stderr.startswith("converting adapters/support, ")
    return project


@pytest.fixture(scope="module")
def expected(real_model: tuple[Path, Path]) -> list[Answer]:
    """What mlx_lm answers with the adapter as it was trained."""
    return greedy(*real_model, QUESTIONS, max_tokens=24)


def test_mlx_lm_answers_alike_with_what_was_made(
    rewritten: Path, real_model: tuple[Path, Path], expected: list[Answer]
) -> None:
    made = rewritten / "build/peft/smol/here/models/adapters/support"
    assert greedy(real_model[0], made, QUESTIONS, max_tokens=24) == expected
    plain = greedy(real_model[0], None, QUESTIONS, max_tokens=24)
    assert [answer.text for answer in plain] != [answer.text for answer in expected]


def test_the_service_answers_alike(rewritten: Path, expected: list[Answer]) -> None:
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with served(command, rewritten / "build/peft/smol/here", rewritten / "log") as url:
        for adapter in ("support", "own"):
            for question, wanted in zip(QUESTIONS, expected, strict=True):
                answer = ask(f"{url}/predict", {"prompt": question, "adapter": adapter}, timeout_s=120)
                assert answer is not None
                assert answer.status == 200, answer.body
                assert (answer.body["tokens"], answer.body["text"]) == (wanted.tokens, wanted.text)


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("F32", 1e-5), ("BF16", 2e-2)])
def test_a_layer_of_mlx_lm_gives_what_peft_documents(tmp_path: Path, dora: bool, dtype: str, tolerance: float) -> None:
    """y = (W x + s B A x) of LoRA; with DoRA times m / |W + s B A|, row by row."""
    random = np.random.default_rng(5)
    weight, x = random.normal(size=(48, 64)), random.normal(size=(4, 64))
    tensors = peft.module(PATH, 64, 48, 8, 1, dtype) | peft.module("model.layers.1.mlp.up_proj", 64, 48, 4, 2, dtype)
    magnitudes = np.abs(random.normal(size=48)) + 0.5
    if dora:
        for path in (PATH, "model.layers.1.mlp.up_proj"):
            tensors[f"{peft.PREFIX}{path}.lora_magnitude_vector"] = magnitudes.astype(np.float32)
    source = peft.write(tmp_path / "source", tensors, use_dora=dora, rank_pattern={"up_proj": 4}, use_rslora=True)
    convert(source, tmp_path / "made")
    for path, rank in ((PATH, 8), ("model.layers.1.mlp.up_proj", 4)):
        a, b = (peft.plain(tensors[f"{peft.PREFIX}{path}.{end}.weight"]) for end in ("lora_A", "lora_B"))
        update = 16 / np.sqrt(rank) * b @ a
        wanted = x @ (weight + update).T
        if dora:
            wanted *= magnitudes / np.linalg.norm(weight + update, axis=1)
        got = layer_output(tmp_path / "made", path, weight, x)
        assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


def layer_output(adapter: Path, path: str, weight: Any, x: Any) -> Any:
    """What mlx_lm's own layer gives with the adapter, in float32."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.tuner.dora import DoRALinear
    from mlx_lm.tuner.lora import LoRALinear

    config = json.loads((adapter / "adapter_config.json").read_text())
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = mx.array(weight.astype(np.float32))
    kind = DoRALinear if config["fine_tune_type"] == "dora" else LoRALinear
    parameters = config["lora_parameters"]
    layer = kind.from_base(linear, r=parameters["rank"], scale=parameters["scale"])
    tensors: Any = mx.load(str(adapter / "adapters.safetensors"))
    own = {name.removeprefix(f"{path}."): value for name, value in tensors.items() if name.startswith(f"{path}.")}
    layer.load_weights(list(own.items()), strict=False)
    return np.array(layer(mx.array(x.astype(np.float32))).astype(mx.float32)).astype(np.float64)
