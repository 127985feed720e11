"""The runner `mlx`: the digits network with MLX's own arrays, over HTTP, by real MLX."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from frameworks.built import build, plan_of, serving
from frameworks.digits import Digits
from frameworks.mlx_digits import converted
from mlspec.resources import folder as shipped
from runtime.services import Service, wait_until

pytestmark = pytest.mark.frameworks

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: digits, project: tests}}
model:
  runner: mlx
  artifacts: {{path: model}}
  module: model/net.py
  class: Net
  inputs: [{{name: image, dtype: float32, shape: [batch, 1, 8, 8]}}]
  outputs: [{{name: logits, dtype: {output}, shape: [batch, 10]}}]
  {more}
targets: [{{name: here, platform: linux, machine: {{memory_gb: 8, cpus: 2}}}}]
"""


def project(
    folder: Path, digits: Digits, *, ending: str = ".safetensors", more: str = "", output: str = "float32"
) -> Path:
    """A built bundle of the network."""
    model = folder / "model"
    model.mkdir()
    (model / "net.py").write_bytes((shipped("specs") / "models/digits-mlx/net.py").read_bytes())
    converted(digits.folder / "digits.safetensors", model / f"digits{ending}")
    bundle, told = build(folder, SPEC.format(more=more, output=output))
    assert bundle, told
    return bundle


async def asked(service: Service, images: Any) -> Any:
    response = await service.client.post("/predict", json={"inputs": {"image": images.tolist()}})
    assert response.status_code == 200, response.text
    return np.array(response.json()["outputs"]["logits"])


def logits_of(bundle: Path, digits: Digits, parts: int = 5) -> Any:
    """The scores of all images, asked for in some requests at once."""

    async def ask() -> Any:
        async with serving(
            bundle, limits={**plan_of(bundle)["runtime"]["limits"], "max_body_bytes": 1 << 24}
        ) as service:
            return np.concatenate(
                await asyncio.gather(*(asked(service, part) for part in np.array_split(digits.images, parts)))
            )

    return asyncio.run(ask())


@pytest.mark.parametrize("ending", [".safetensors", ".npz"])
@pytest.mark.parametrize("more", ["", "compile: true"])
def test_the_classes_are_those_of_torch(tmp_path: Path, digits: Digits, ending: str, more: str) -> None:
    logits = logits_of(project(tmp_path, digits, ending=ending, more=more), digits)
    assert np.array_equal(logits.argmax(1), digits.classes)
    assert np.abs(logits - digits.logits).max() < 1e-4


@pytest.mark.parametrize(("dtype", "off"), [("float16", 0.1), ("bfloat16", 0.6)])
def test_it_computes_in_the_asked_type_and_answers_in_the_declared_one(
    tmp_path: Path, digits: Digits, dtype: str, off: float
) -> None:
    bundle = project(tmp_path, digits, more=f"dtype: {dtype}")
    assert plan_of(bundle)["runtime"]["runner"]["settings"]["model"]["dtype"] == dtype
    logits = logits_of(bundle, digits)
    assert (logits.argmax(1) == digits.classes).mean() > 0.99
    assert 0 < np.abs(logits - digits.logits).max() < off


def test_outputs_come_back_as_declared(tmp_path: Path, digits: Digits) -> None:
    logits = logits_of(project(tmp_path, digits, output="float64"), digits, parts=1)
    assert np.array_equal(logits.argmax(1), digits.classes)


def failure(bundle: Path) -> str:
    """Why a bundle's service doesn't start."""

    async def ask() -> str:
        async with serving(bundle, wait=False) as service:
            wait_until(lambda: service.model._problem is not None, timeout_s=60)
            return str((await service.client.get("/health")).json()["error"]["message"])

    return asyncio.run(ask())


def test_arrays_that_dont_fit_are_named(tmp_path: Path, digits: Digits) -> None:
    bundle = project(tmp_path, digits)
    file = tmp_path / "model" / "digits.safetensors"
    arrays = load_file(digits.folder / "digits.safetensors")
    arrays["extra"] = arrays.pop("scores.bias")
    save_file(arrays, file)
    again, told = build(tmp_path, (tmp_path / "spec.yaml").read_text())
    assert again == bundle, told
    message = failure(bundle)
    assert "without an array: scores.bias" in message
    assert "unknown to the class: extra" in message
    assert "conv2.weight [32, 16, 3, 3], not [32, 3, 3, 16]" in message
    assert "PyTorch keeps a convolution's channels second, MLX last" in message


FUNCTION = """
    import mlx.core as mx

    class Net:
        def load(self, arrays):
            self.weight, self.bias = arrays["scores.weight"], arrays["scores.bias"]

        def __call__(self, image):
            rows = mx.tile(image.reshape(image.shape[0], -1), (1, 8))
            return {"logits": rows @ self.weight.T + self.bias}
"""


def test_a_class_that_is_no_module_gets_the_arrays(tmp_path: Path, digits: Digits) -> None:
    bundle = project(tmp_path, digits)
    (bundle / "user" / "model" / "net.py").write_text(textwrap.dedent(FUNCTION), encoding="utf-8")
    arrays = load_file(digits.folder / "digits.safetensors")
    rows = np.tile(digits.images.reshape(500, -1), (1, 8))
    assert np.allclose(logits_of(bundle, digits), rows @ arrays["scores.weight"].T + arrays["scores.bias"], atol=1e-3)


def test_its_memory_is_told(tmp_path: Path, digits: Digits) -> None:
    bundle = project(tmp_path, digits)

    async def ask() -> dict[str, int]:
        async with serving(bundle) as service:
            await asked(service, digits.images[:8])
            return dict(service.runner.vitals().memory_bytes)

    found = asyncio.run(ask())
    assert found["active"] > 39_000  # the weights have 39,720
    assert found["peak"] >= found["active"]
    assert found["limit"] == plan_of(bundle)["runtime"]["runner"]["settings"]["model"]["memory"]["memory_limit_bytes"]
