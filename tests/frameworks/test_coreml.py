"""The runner `coreml`: conversion by a build, the package that it makes, what it refuses. The numbers need a Mac."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frameworks.built import build, plan_of, serving
from frameworks.digits import Digits
from mlspec.model.facts import ModelRef
from mlspec.model.spec import Source
from mlspec.resources import folder as shipped
from mlspec.runners.coreml.package import read_package
from runtime.services import wait_until

pytestmark = pytest.mark.frameworks

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: digits, project: tests}}
model:
  runner: coreml
  artifacts: {{path: model}}
  {more}
  convert: {convert}
  inputs: [{{name: image, dtype: float32, shape: [batch, 1, 8, 8]}}]
  outputs: [{{name: logits, dtype: float32, shape: [batch, 10]}}]
targets: [{{name: mac, platform: macos, machine: {{chip: Apple M4, memory_gb: 24, macos: "15.1"}}}}]
"""
OF_CLASS = "trusted: true, module: net.py, class: Net"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Path:
    """A project with the network's files."""
    folder = tmp_path_factory.mktemp("coreml")
    (folder / "model").mkdir()
    for name in ("digits.safetensors", "digits.pt2", "net.py"):
        shutil.copy(digits.folder / name, folder / "model" / name)
    return folder


def converted(project: Path, convert: str, more: str = "") -> tuple[Path, str]:
    """The bundle and what was told."""
    bundle, told = build(project, SPEC.format(convert=f"{{{convert}}}", more=more))
    assert bundle, told
    return bundle, told


def description_of(package: Path) -> Any:
    """As coremltools reads it."""
    with warnings.catch_warnings():  # its own code has strings that Python 3.12 calls wrong, and calls of NumPy's past
        warnings.simplefilter("ignore")
        import coremltools

        return coremltools.utils.load_spec(str(package))


def test_a_build_converts_the_network(project: Path) -> None:
    bundle, told = converted(project, OF_CLASS)
    assert told == ""
    package = bundle / "models" / "artifacts" / "model.mlpackage"
    spec = description_of(package)
    assert spec.specificationVersion == 7  # macOS 13
    assert spec.WhichOneof("Type") == "mlProgram"
    (image,), (logits,) = spec.description.input, spec.description.output
    assert (image.name, logits.name) == ("image", "logits")
    assert list(image.type.multiArrayType.shape) == [1, 1, 8, 8]
    sizes = image.type.multiArrayType.shapeRange.sizeRanges
    assert [(size.lowerBound, size.upperBound) for size in sizes] == [(1, 64), (1, 1), (8, 8), (8, 8)]
    assert image.type.multiArrayType.dataType == logits.type.multiArrayType.dataType == 65568  # FLOAT32
    settings = plan_of(bundle)["runtime"]["runner"]["settings"]["model"]
    assert settings["limits"] == {"image": {"ranges": [[1, 64], [1, 1], [8, 8], [8, 8]], "shapes": []}}


def test_a_second_build_takes_it_from_the_store(project: Path) -> None:
    places = [(converted(project, OF_CLASS)[0] / "models" / "artifacts").resolve() for _ in range(2)]
    assert places[0] == places[1]
    made_at = [(place / "mlspec-derived.json").stat().st_mtime_ns for place in places]
    assert made_at[0] == made_at[1]


def weights_bytes(bundle: Path) -> int:
    (weights,) = (bundle / "models" / "artifacts" / "model.mlpackage").resolve().rglob("weight.bin")
    return weights.stat().st_size


def test_target_precision_and_rows_are_those_of_the_spec(project: Path) -> None:
    half = weights_bytes(converted(project, OF_CLASS)[0])
    bundle, _ = converted(project, f"{OF_CLASS}, minimum_deployment_target: macOS15, max_rows: 7, precision: float32")
    spec = description_of(bundle / "models" / "artifacts" / "model.mlpackage")
    assert spec.specificationVersion == 9
    assert spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges[0].upperBound == 7
    elements = 16 * 9 + 16 + 32 * 16 * 9 + 32 + 512 * 10 + 10
    assert elements * 2 * 0.95 < half < elements * 2 * 1.1
    assert elements * 4 * 0.95 < weights_bytes(bundle) < elements * 4 * 1.1


def test_an_exported_program_is_converted_if_its_digest_is_trusted(project: Path) -> None:
    sha256 = hashlib.sha256((project / "model" / "digits.pt2").read_bytes()).hexdigest()
    bundle, _ = converted(project, f"trusted: true, sha256: {sha256}")
    spec = description_of(bundle / "models" / "artifacts" / "model.mlpackage")
    assert [feature.name for feature in (*spec.description.input, *spec.description.output)] == ["image", "logits"]
    bundle_of_other, told = build(project, SPEC.format(convert=f"{{trusted: true, sha256: {'a' * 64}}}", more=""))
    assert bundle_of_other is None
    assert "error[untrusted-model]" in told


def test_what_cant_be_converted_is_told(project: Path) -> None:
    (project / "model" / "broken.py").write_text(
        "class Net:\n    def __init__(self):\n        raise ValueError('no such net')\n"
    )
    bundle, told = build(project, SPEC.format(convert="{trusted: true, module: broken.py, class: Net}", more=""))
    assert bundle is None
    assert "error[conversion-failed]: the conversion ended with 1: ValueError: no such net" in told


def test_our_reading_of_a_package_is_coremltools(project: Path) -> None:
    bundle, _ = converted(project, OF_CLASS)
    folder = bundle / "models" / "artifacts"
    facts = read_package(ModelRef("artifacts", Source(path="x"), ("artifacts",)), folder, "model.mlpackage")
    assert json.loads(json.dumps(facts.details)) == {
        "package": "model.mlpackage",
        "version": 7,
        "inputs": [
            {
                "name": "image",
                "kind": "array",
                "dtype": "float32",
                "shape": [1, 1, 8, 8],
                "ranges": [[1, 64], [1, 1], [8, 8], [8, 8]],
            }
        ],
        "outputs": [{"name": "logits", "kind": "array", "dtype": "float32"}],
        "states": 0,
        "functions": 0,
    }


def test_the_shipped_package_is_what_coremltools_reads() -> None:
    spec = description_of(shipped("specs") / "models" / "digits-coreml" / "digits.mlpackage")
    assert [feature.name for feature in (*spec.description.input, *spec.description.output)] == ["image", "scores"]


@pytest.mark.skipif(sys.platform == "darwin", reason="on a Mac it serves")
def test_elsewhere_the_service_refuses_with_the_remedy(project: Path) -> None:
    bundle, _ = converted(project, OF_CLASS)

    async def ask() -> dict[str, Any]:
        async with serving(bundle, wait=False) as service:
            wait_until(lambda: service.model._problem is not None, timeout_s=60)
            response = await service.client.get("/health")
            assert response.status_code == 503
            error: dict[str, Any] = response.json()["error"]
            return error

    error = asyncio.run(ask())
    assert error["code"] == "coreml_needs_macos"
    assert "Start it on a Mac" in error["message"]


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML computes on macOS alone")
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_the_classes_are_those_of_torch(project: Path, digits: Digits, precision: str) -> None:
    bundle, _ = converted(project, f"{OF_CLASS}, precision: {precision}")

    async def ask() -> Any:
        limits = {**plan_of(bundle)["runtime"]["limits"], "max_body_bytes": 1 << 24}
        async with serving(bundle, limits=limits) as service:
            response = await service.client.post("/predict", json={"inputs": {"image": digits.images.tolist()}})
            return np.array(response.json()["outputs"]["logits"])

    assert np.array_equal(asyncio.run(ask()).argmax(1), digits.classes)
