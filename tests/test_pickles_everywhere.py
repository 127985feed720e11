"""Pickles in every place where a spec or a request can give a file: refused, and nothing of them has run."""

from __future__ import annotations

import asyncio
import base64
import shutil
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlspec import pipeline
from mlspec.cli import main
from mlspec.diagnostics import Report
from mlspec.workspace import Surroundings
from payloads import Payload, payload
from projects import example, surroundings
from runtime.bundles import limits
from runtime.services import running
from test_pickles import npy, zipped

FORMS: dict[str, Callable[[Path], bytes]] = {
    "protocol 0": lambda mark: payload(mark, 0),
    "protocol 4": lambda mark: payload(mark, 4),
    "torch": lambda mark: zipped({"archive/data.pkl": payload(mark, 2), "archive/version": b"3\n"}),
    "joblib": lambda mark: zlib.compress(payload(mark, 3)),
    "objects": lambda mark: npy(np.array([Payload(mark)], dtype=object)),
    "objects in a zip": lambda mark: zipped({"x.npy": npy(np.array([Payload(mark)], dtype=object))}),
}
SIGNATURE = "inputs: [{name: x, shape: [batch, 4]}], outputs: [{name: y, shape: [batch, 2]}]"
CLASS = "module: net.py, class: Net"
MODEL = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: demo, project: tests}}
model: {{{model}}}
targets: [{{name: here, platform: {platform}, machine: {machine}}}]
"""
LINUX = ("linux", "{memory_gb: 8, cpus: 2}")
MAC = ("macos", '{chip: Apple M4, memory_gb: 24, macos: "15.1"}')
ARTIFACTS = "artifacts: {path: model}"
ADAPTED = "runner: lora, base: {path: specs/models/tiny}, adapters: [{name: a, path: model}]"

PLACES: dict[str, tuple[str, str]] = {
    "onnx": (f"runner: onnx, {ARTIFACTS}", "model.onnx"),
    "sklearn, .skops": (f"runner: sklearn, {ARTIFACTS}, {SIGNATURE}", "model.skops"),
    "sklearn, .pkl": (f"runner: sklearn, {ARTIFACTS}, {SIGNATURE}", "model.pkl"),
    "sklearn, .joblib": (f"runner: sklearn, {ARTIFACTS}, {SIGNATURE}", "model.joblib"),
    "sklearn, file": (f"runner: sklearn, {ARTIFACTS}, file: model.bin, {SIGNATURE}", "model.bin"),
    "torch, .pt": (f"runner: torch, {ARTIFACTS}, {CLASS}, {SIGNATURE}", "net.pt"),
    "torch, .pth": (f"runner: torch, {ARTIFACTS}, {CLASS}, {SIGNATURE}", "net.pth"),
    "torch, .pt2": (f"runner: torch, {ARTIFACTS}", "net.pt2"),
    "torch, .safetensors": (f"runner: torch, {ARTIFACTS}, {CLASS}, {SIGNATURE}", "net.safetensors"),
    "mlx, .npz": (f"runner: mlx, {ARTIFACTS}, {CLASS}, {SIGNATURE}", "net.npz"),
    "mlx, .safetensors": (f"runner: mlx, {ARTIFACTS}, {CLASS}, {SIGNATURE}", "net.safetensors"),
    "python, artifacts": (f"runner: python, {ARTIFACTS}, {CLASS}, {SIGNATURE}", "anything.dat"),
    "python, deep in artifacts": (f"runner: python, {ARTIFACTS}, {CLASS}, {SIGNATURE}", "deep/in/it.json"),
    "mlx-lm, weights": ("runner: mlx-lm, base: {path: model}", "model.safetensors"),
    "mlx-lm, configuration": ("runner: mlx-lm, base: {path: model}", "config.json"),
    "mlx-lm, another file of weights": ("runner: mlx-lm, base: {path: model}", "pytorch_model.bin"),
    "adapter": (ADAPTED, "adapters.safetensors"),
    "adapter, PEFT's": (ADAPTED, "adapter_model.safetensors"),
    "adapter, PEFT's pickle": (ADAPTED, "adapter_model.bin"),
    "chat template": (
        "runner: mlx-lm, base: {path: specs/models/tiny}, chat_template: model/template.jinja",
        "template.jinja",
    ),
    "pipeline": (f"runner: pipeline, stages: [{{name: one, model: {{runner: onnx, {ARTIFACTS}}}}}]", "model.onnx"),
}


def project(folder: Path, file: str, content: bytes) -> Path:
    example(folder)
    path = folder / "model" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (folder / "net.py").write_text("class Net: ...\n")
    return folder


def reported(folder: Path, text: str) -> Report:
    """What a whole build says of the spec."""
    spec, report = folder / "spec.yaml", Report()
    spec.write_text(text)
    places = list(pipeline.build([spec], surroundings(folder), None, report))
    assert not (report.failed and places)
    return report


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
def test_a_model_that_is_a_pickle_is_refused(tmp_path: Path, place: str, form: str) -> None:
    model, file = PLACES[place]
    folder = project(tmp_path, file, FORMS[form](tmp_path / "ran"))
    platform, machine = MAC if "mlx" in model or "lora" in model else LINUX
    report = reported(folder, MODEL.format(model=model, platform=platform, machine=machine))
    assert report.failed, "no build of it"
    assert not (tmp_path / "ran").exists(), "and nothing ran"


@pytest.mark.parametrize("form", FORMS)
def test_a_lock_is_not_made_of_a_pickle(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = PLACES["onnx"]
    folder = project(tmp_path, file, FORMS[form](tmp_path / "ran"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (folder / "spec.yaml").write_text(MODEL.format(model=model, platform="linux", machine=LINUX[1]))
    assert main(["lock", str(folder / "spec.yaml")]) != 0
    assert not (folder / "spec.lock.yaml").exists()
    assert not (tmp_path / "ran").exists()


OTHERS = ("spec.yaml", "mlspec.yaml", "spec.lock.yaml", "machines/mac.yaml")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", OTHERS)
def test_what_should_be_yaml(tmp_path: Path, file: str, form: str) -> None:
    folder = example(tmp_path)
    (folder / "machines").mkdir()
    machine = "{profile: machines/mac.yaml}"
    text = MODEL.format(model="runner: mlx-lm, base: {path: specs/models/tiny}", platform="macos", machine=machine)
    (folder / "spec.yaml").write_text(text)
    (folder / file).write_bytes(FORMS[form](tmp_path / "ran"))
    report = Report()
    pipeline.check([folder / "spec.yaml"], Surroundings({}, folder, folder / "home"), report)
    assert report.failed
    assert not (tmp_path / "ran").exists()


def echo(bundle: Path, **inputs: Any) -> dict[str, Any]:
    """The runner's part of a plan, for a class that answers with what it got."""
    (bundle / "user").mkdir()
    code = """
        class Echo:
            def predict(self, inputs):
                return dict(inputs)
    """
    (bundle / "user" / "echo.py").write_text(textwrap.dedent(code))
    tensor = {"name": "x", "dtype": "float32", "shape": ["batch", 2], **inputs}
    signature = {"inputs": [tensor], "outputs": [{"name": "x", "dtype": tensor["dtype"], "shape": tensor["shape"]}]}
    settings = {"model": {"module": "user/echo.py", "class": "Echo"}, **signature, "requests": signature}
    return {"name": "python", "module": "mlspec.runners.python.runtime", "settings": settings}


VALUES: dict[str, Callable[[str], Any]] = {
    "npy": lambda bad: {"npy": bad},
    "raw": lambda bad: {"base64": bad, "dtype": "float32", "shape": [1, 2]},
    "objects": lambda bad: {"base64": bad, "dtype": "object", "shape": [1, 2]},
    "csv": lambda bad: {"csv": base64.b64decode(bad).decode("latin-1")},
    "text": lambda bad: bad,
    "list": lambda bad: [[bad, bad]],
}


@pytest.mark.parametrize("form", FORMS)
def test_values_of_a_request(tmp_path: Path, form: str) -> None:
    bad = base64.b64encode(FORMS[form](tmp_path / "ran")).decode()

    async def ask() -> None:
        room = limits(max_body_bytes=1 << 20)
        runner = echo(tmp_path, columns=["a", "b"])
        async with running(tmp_path, runner=runner, task="predict", endpoints=["predict", "batch"], limits=room) as one:
            for name, value in VALUES.items():
                answer = await one.client.post("/predict", json={"inputs": {"x": value(bad)}})
                assert (answer.status_code, name) == (422, name), answer.text
            rows = {"inputs": [{"inputs": {"x": value(bad)}} for value in VALUES.values()]}
            batch = await one.client.post("/predict/batch", json=rows)
            assert all("error" in output for output in batch.json()["outputs"]), batch.text

    asyncio.run(ask())
    assert not (tmp_path / "ran").exists()


MEDIA_TYPES = (
    "application/x-npy",
    "application/octet-stream",
    "application/x-pickle",
    "application/json",
    "text/csv",
    "image/png",
    "application/vnd.apache.parquet",
    "multipart/form-data; boundary=x",
)


@pytest.mark.parametrize("form", FORMS)
def test_whole_bodies(tmp_path: Path, form: str) -> None:
    body = FORMS[form](tmp_path / "ran")

    async def ask() -> None:
        room = limits(max_body_bytes=1 << 20)
        runner = echo(tmp_path, columns=["a", "b"])
        async with running(tmp_path, runner=runner, task="predict", endpoints=["predict", "batch"], limits=room) as one:
            for path in ("/predict", "/predict/batch"):
                for media_type in MEDIA_TYPES:
                    answer = await one.client.post(path, content=body, headers={"Content-Type": media_type})
                    assert 400 <= answer.status_code < 500, (path, media_type, answer.text)

    asyncio.run(ask())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".npy", ".pkl"])
def test_rows_of_batch_inference(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = example(tmp_path)
    given = folder / f"rows{ending}"
    given.write_bytes(FORMS["protocol 4"](tmp_path / "ran"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.rmtree(folder / "out", ignore_errors=True)
    asked = ["predict", "specs/iris.yaml", "--input", str(given), "--output", "out.jsonl"]
    assert main(asked) != 0
    assert not (folder / "out.jsonl").exists() or not (folder / "out.jsonl").read_text()
    assert not (tmp_path / "ran").exists()
