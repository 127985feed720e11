"""Pipelines of several frameworks, and steps around a real network, over HTTP: the digits that were held back."""

from __future__ import annotations

import asyncio
import base64
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiled import compiled, outputs, runtime_of, serving
from frameworks.digits import Digits
from projects import example, with_spec

pytestmark = pytest.mark.frameworks

STRIP = '''
"""Digits that were written side by side, apart again."""

import numpy as np


class Cutter:
    def predict(self, inputs):
        strip = inputs["strip"]
        cut = strip.reshape(8, -1, 8).transpose(1, 0, 2)
        return {"digits": cut[:, None], "left": np.arange(len(cut)) * 8}


class Votes:
    def predict(self, inputs):
        return {"scores": (inputs["by_onnx"] + inputs["by_torch"]) / 2}
'''
CUTTER = """
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: strip, project: tests}
model:
  runner: pipeline
  stages:
    - name: cutter
      model:
        runner: python
        module: strip.py
        class: Cutter
        inputs: [{name: strip, shape: [8, width]}]
        outputs: [{name: digits, shape: [found, 1, 8, 8]}, {name: left, dtype: int64, shape: [found]}]
    - name: reader
      inputs: {image: cutter.digits}
      model: {runner: onnx, artifacts: {path: onnx}, file: digits.onnx}
      post:
        - {step: softmax, input: logits, output: probabilities}
        - {step: top_k, input: probabilities, k: 2, classes: digit}
  outputs: [{name: left, dtype: int64, shape: [n]}, {name: digit, dtype: int64, shape: [n, 2]}]
service: {limits: {max_body_bytes: 16777216}}
targets: [{name: here, platform: linux}]
"""
VOTES = """
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: votes, project: tests}
model:
  runner: pipeline
  stages:
    - name: one
      model: {runner: onnx, artifacts: {path: onnx}, file: digits.onnx}
      post: [{step: rename, names: {logits: by_onnx}}]
    - name: other
      inputs: {image: image}
      model:
        runner: torch
        artifacts: {path: torch}
        module: specs/models/digits/net.py
        class: Net
        inputs: [{name: image, shape: [batch, 1, 8, 8]}]
        outputs: [{name: by_torch, shape: [batch, 10]}]
    - name: votes
      model:
        runner: python
        module: strip.py
        class: Votes
        inputs: [{name: by_onnx, shape: [rows, 10]}, {name: by_torch, shape: [rows, 10]}]
        outputs: [{name: scores, shape: [rows, 10]}]
service:
  limits: {max_body_bytes: 16777216}
  batching: {max_rows: 64}
targets: [{name: here, platform: linux}]
"""
PHOTO = """
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: photo, project: tests}
model: {runner: onnx, artifacts: {path: onnx}, file: digits.onnx}
service:
  limits: {max_body_bytes: 16777216}
  pre:
    - {step: resize, input: image, method: box}
    - {step: normalize, input: image, dtype: uint8, divide_by: 255}
    - {step: transpose, input: image, order: [0, 3, 1, 2]}
  post:
    - {step: argmax, input: logits, output: digit}
targets: [{name: here, platform: linux}]
"""


@pytest.fixture
def project(tmp_path: Path, digits: Digits) -> Path:
    example(tmp_path)
    (tmp_path / "strip.py").write_text(STRIP)
    for place, name in (("onnx", "digits.onnx"), ("torch", "digits.safetensors")):
        (tmp_path / place).mkdir()
        shutil.copy(digits.folder / name, tmp_path / place / name)
    return tmp_path


def test_what_a_class_cuts_a_network_reads(project: Path, digits: Digits) -> None:
    bundle = compiled(project, with_spec(project, CUTTER))

    async def check() -> None:
        async with serving(bundle) as service:
            read: list[Any] = []
            for at in range(0, 500, 25):
                strip = digits.images[at : at + 25, 0].transpose(1, 0, 2).reshape(8, -1)
                found = await outputs(service, strip=strip.tolist())
                assert found["left"] == list(range(0, 200, 8))
                read += found["digit"]
            assert [best for best, _ in read] == digits.classes.tolist()
            second = np.argsort(-digits.logits, axis=1)[:, 1]
            assert np.mean([other for _, other in read] == second) > 0.99  # softmax rounds what is far below to zero

    asyncio.run(check())


def test_three_runners_in_one_service(project: Path, digits: Digits) -> None:
    bundle = compiled(project, with_spec(project, VOTES))
    block = runtime_of(bundle)
    assert [model["role"] for model in block["models"]] == ["one/artifacts", "other/artifacts"]
    lines = (bundle / "requirements.txt").read_text()
    assert "onnxruntime==" in lines
    assert "torch==" in lines

    async def check() -> None:
        async with serving(bundle) as service:
            parts = [digits.images[at : at + 10].tolist() for at in range(0, 500, 10)]
            found = await asyncio.gather(*(outputs(service, image=part) for part in parts))
            scores = np.concatenate([answer["scores"] for answer in found])
            np.testing.assert_allclose(scores, digits.logits, atol=1e-4)
            calls = service.runner.vitals().calls  # those since somebody asked last
            assert sum(call.rows for call in calls) > 10 * sum(call.calls for call in calls)

    asyncio.run(check())


def test_images_of_any_size_are_read(project: Path, digits: Digits) -> None:
    from PIL import Image

    bundle = compiled(project, with_spec(project, PHOTO))
    asked = runtime_of(bundle)["runner"]["settings"]["requests"]["inputs"]
    assert asked[0]["shape"][1:] == ["image_height", "image_width", 1]
    assert "pillow==" in (bundle / "requirements.txt").read_text()

    def png(image: Any, factor: int) -> str:
        pixels = np.repeat(np.repeat((image[0] * 255).astype(np.uint8), factor, 0), factor + 1, 1)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    async def check() -> None:
        async with serving(bundle) as service:
            for at in range(0, 500, 20):
                images = [{"image": png(image, 1 + at // 100)} for image in digits.images[at : at + 20]]
                found = await outputs(service, image=images)
                assert found == {"digit": digits.classes[at : at + 20].tolist()}
            wrong = await service.client.post("/predict", json={"inputs": {"image": [{"image": "AAAA"}]}})
            assert (wrong.status_code, wrong.json()["error"]["field"]) == (422, "inputs.image.0")

    asyncio.run(check())
