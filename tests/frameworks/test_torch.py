"""The runner `torch` with the real torch: the digits network over HTTP, and what its files must be."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import torch_files
from frameworks.built import build, plan_of, serving
from frameworks.digits import HELD_BACK, Digits
from mlspec.model_files import Tensor
from mlspec.runners.torch.archives import program, state_dict
from mlspec.runners.torch.exported import signature
from mlspec.runners.torch.runtime import create_model
from mlspec.serving import ask, free_port, running, wait_until_healthy
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.signature import TensorSpec
from projects import example
from runtime.services import wait_until

pytestmark = pytest.mark.frameworks

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: digits, project: tests}}
model:
  runner: torch
  artifacts: {{path: model}}
  file: {file}
{more}
service:
  limits: {{max_body_bytes: 16777216}}
targets: [{{name: here, platform: linux, machine: {{memory_gb: 8, cpus: 2}}}}]
"""
NETWORK = """\
  module: model/net.py
  class: Net
  inputs: [{name: image, dtype: float32, shape: [batch, 1, 8, 8]}]
  outputs: [{name: output, dtype: float32, shape: [batch, 10]}]
"""


def project_of(digits: Digits, folder: Path) -> Path:
    shutil.copytree(digits.folder, folder / "model", ignore=shutil.ignore_patterns("external", "*.onnx"))
    return folder


def bundle_of(digits: Digits, folder: Path, file: str) -> Path:
    """A bundle of the network in one of its files."""
    project = project_of(digits, folder)
    digest = hashlib.sha256((project / "model" / file).read_bytes()).hexdigest()
    more = f"  trusted: true\n  sha256: {digest}\n" if file.endswith(".pt2") else NETWORK
    bundle, told = build(project, SPEC.format(file=file, more=more))
    assert bundle, told
    return bundle


def assert_torchs_own(answer: Any, digits: Digits) -> None:
    scores = np.array(answer["outputs"]["output"], dtype=np.float32)
    assert scores.shape == (HELD_BACK, 10)
    np.testing.assert_allclose(scores, digits.logits, rtol=1e-4, atol=1e-4)
    assert (scores.argmax(1) == digits.classes).all()


def test_the_network_has_learned_to_read(digits: Digits) -> None:
    assert len(digits.images) == HELD_BACK
    assert digits.accuracy > 0.97


def test_a_service_built_by_mlspec_gives_torchs_own_classes(digits: Digits, tmp_path: Path) -> None:
    bundle = bundle_of(digits, tmp_path, "digits.safetensors")
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "service:ModelService", "--host", "127.0.0.1"]
    with (tmp_path / "log").open("w+b") as log, running([*command, "--port", str(port)], bundle, log) as process:
        wait_until_healthy(process, f"http://127.0.0.1:{port}", 120)
        answer = ask(f"http://127.0.0.1:{port}/predict", {"inputs": {"image": digits.images.tolist()}})
        assert answer is not None
        assert answer.status == 200
        assert_torchs_own(answer.body, digits)
        one = ask(f"http://127.0.0.1:{port}/predict", {"inputs": {"image": digits.images[:1].tolist()}})
        assert one is not None
        assert np.argmax(one.body["outputs"]["output"]) == digits.classes[0]
        log.seek(0)
        assert b"computes on cpu in float32, 2 threads" in log.read()


@pytest.mark.parametrize("file", ["digits.pt", "digits.pt2"])
def test_the_other_formats_give_the_same(digits: Digits, tmp_path: Path, file: str) -> None:
    async def check() -> None:
        async with serving(bundle_of(digits, tmp_path, file)) as service:
            response = await service.client.post("/predict", json={"inputs": {"image": digits.images.tolist()}})
            assert response.status_code == 200, response.text
            assert_torchs_own(response.json(), digits)
            together = [
                service.client.post("/predict", json={"inputs": {"image": digits.images[n : n + 1].tolist()}})
                for n in range(20)
            ]
            found = [np.argmax((await one).json()["outputs"]["output"]) for one in together]
            assert found == digits.classes[:20].tolist()

    asyncio.run(check())


def test_the_examples_own_tests_pass(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    command = [sys.executable, "-m", "mlspec", "test", "specs/digits.yaml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 0 failed" in done.stdout


def told(tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    """What mlspec should read of tensors, by torch itself."""
    return {
        name: Tensor(str(t.dtype).removeprefix("torch."), tuple(t.shape), t.numel() * t.element_size())
        for name, t in tensors.items()
    }


def test_opcodes_tell_what_torch_reads(digits: Digits, tmp_path: Path) -> None:
    path = digits.folder / "digits.pt"
    assert state_dict(path) == told(torch.load(path, weights_only=True))
    kinds = [getattr(torch, name) for name in ("float64", "float16", "bfloat16", "int8", "uint8", "bool", "int64")]
    tensors = {str(kind): torch.zeros(3, 2, dtype=kind) for kind in [*kinds, torch.int16, torch.int32, torch.uint16]}
    shared = torch.zeros(4, 4)
    more = {"parameter": torch.nn.Parameter(torch.zeros(2)), "scalar": torch.tensor(1), "view": shared[1:, :2]}
    torch.save({**tensors, **more, "same": shared}, tmp_path / "net.pt")
    assert state_dict(tmp_path / "net.pt") == told({**tensors, **more, "same": shared})
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.LSTM(3, 4))
    torch.save(network.state_dict(), tmp_path / "more.pth")
    assert state_dict(tmp_path / "more.pth") == told(network.state_dict())


def test_the_json_of_a_program_tells_its_signature(digits: Digits) -> None:
    found = program(digits.folder / "digits.pt2")
    assert signature(found.description) == {
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
        "outputs": [{"name": "output", "dtype": "float32", "shape": ["batch", 10]}],
    }
    assert found.size_bytes == sum(t.size_bytes for t in state_dict(digits.folder / "digits.pt").values())


class Whole(torch.nn.Module):
    """A network that somebody pickles whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)


def _script(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))


REFUSED: dict[str, tuple[Any, str, str]] = {
    "whole": (lambda path: torch.save(Whole(), path), "error[pickle]", "would import frameworks.test_torch.Whole"),
    "layer": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "error[pickle]", "torch.nn.modules.linear.Linear"),
    "TorchScript": (_script, "error[model-format]", "holds TorchScript"),
    "checkpoint": (
        lambda path: torch.save({"model": Whole().state_dict(), "epoch": 3}, path),
        "error[model-format]",
        "'model', 'epoch'",
    ),
    "tensor": (lambda path: torch.save(torch.zeros(2), path), "error[model-format]", "a single tensor"),
    "protocol 4": (
        lambda path: torch.save(Whole().state_dict(), path, pickle_protocol=4),
        "error[pickle]",
        "opcode",
    ),
    "before 1.6": (
        lambda path: torch.save(Whole().state_dict(), path, _use_new_zipfile_serialization=False),
        "error[pickle]",
        "a bare pickle, as torch wrote before 1.6",
    ),
}


@pytest.mark.parametrize(("save", "code", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_holds_more_than_tensors_is_refused(tmp_path: Path, save: Any, code: str, reason: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/net.py").write_text("class Net: ...\n")
    save(tmp_path / "model/net.pt")
    bundle, report = build(tmp_path, SPEC.format(file="net.pt", more=NETWORK))
    assert bundle is None
    assert code in report
    assert reason in report
    assert "help:" in report


def model_of(folder: Path, code: str, outputs: tuple[TensorSpec, ...] | None = None, **settings: Any) -> Any:
    """The runner's model of a class, with its settings as a plan has them."""
    (folder / "net.py").write_text("import torch\nfrom torch import nn\n\n" + code)
    usual = {"file": "net.safetensors", "format": "safetensors", "device": "cpu", "dtype": "float32"}
    own = {**usual, "module": "net.py", "class": "Net", "arguments": {}, **settings}
    inputs = (TensorSpec("x", "float32", ("batch", 2)),)
    return create_model(ModelContext(own, inputs, outputs or (TensorSpec("y", "float32", ("batch", 2)),), folder))


LINEAR = """
class Net(nn.Module):
    def __init__(self, wide=2):
        super().__init__()
        self.layer = nn.Linear(2, wide)

    def forward(self, x):
        return self.layer(x)
"""
STATE = {"layer.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "layer.bias": torch.tensor([0.5, 0.0])}
X = np.array([[1.0, 1.0]], dtype=np.float32)


def failed(model: Any, folder: Path) -> ServiceError:
    with pytest.raises(ServiceError) as problem:
        model.load({"artifacts": folder})
    return problem.value


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"layer.weight": STATE["layer.weight"]}, "it lacks 1 tensor (layer.bias)"),
        ({**STATE, "head.weight": torch.zeros(1)}, "Net has no 1 tensor (head.weight)"),
        ({**STATE, "layer.weight": torch.zeros(3, 2)}, "other shapes: layer.weight is [3, 2], in Net [2, 2]"),
        ({f"module.{k}": v for k, v in STATE.items()}, "save network.module.state_dict()"),
        ({f"_orig_mod.{k}": v for k, v in STATE.items()}, "save network._orig_mod.state_dict()"),
        ({f"n{n}": torch.zeros(1) for n in range(9)}, "9 tensors (n0, n1, n2, n3, n4, …)"),
    ],
)
@pytest.mark.parametrize("kind", ["safetensors", "state-dict"])
def test_tensors_that_are_not_the_networks_are_named(
    tmp_path: Path, kind: str, state: dict[str, torch.Tensor], told: str
) -> None:
    name = "net.safetensors" if kind == "safetensors" else "net.pt"
    (save_file if kind == "safetensors" else torch.save)(state, tmp_path / name)  # type: ignore[operator]
    problem = failed(model_of(tmp_path, LINEAR, file=name, format=kind), tmp_path)
    assert (problem.code, problem.status) == ("load_failed", 503)
    assert problem.message.startswith(f"{name} doesn't fit Net: ")
    assert told in problem.message


def test_a_tied_tensor_may_be_missing(tmp_path: Path) -> None:
    code = LINEAR.replace("self.layer = nn.Linear(2, wide)", "self.layer = self.same = nn.Linear(2, wide)")
    save_file(STATE, tmp_path / "net.safetensors")
    model = model_of(tmp_path, code)
    model.load({"artifacts": tmp_path})
    assert model.predict({"x": X})["y"].tolist() == [[3.5, 7.0]]


@pytest.mark.parametrize(
    ("code", "settings", "told"),
    [
        (LINEAR, {"arguments": {"width": 2}}, "Net, made with width, raised TypeError"),
        ("class Net: ...", {}, "Net is no torch.nn.Module"),
        ("class Other: ...", {}, "net.py has no class Net"),
        (LINEAR.replace("self.layer(x)", "x @ x"), {}, "the network raised RuntimeError for zeros of its inputs"),
        (LINEAR.replace("self.layer(x)", "(x, x)"), {}, "the network gives 2 arrays, declared are 1"),
        (LINEAR.replace("self.layer(x)", "'x'"), {}, "the network gives str for y"),
    ],
)
def test_a_class_that_does_not_do_is_told_before_a_request(
    tmp_path: Path, code: str, settings: dict[str, Any], told: str
) -> None:
    save_file(STATE, tmp_path / "net.safetensors")
    assert told in failed(model_of(tmp_path, code, **settings), tmp_path).message


@pytest.mark.parametrize(("device", "reason"), [("mps", "is built without it"), ("cuda", "is built for CPUs")])
def test_a_device_that_is_not_there_is_an_error_and_no_other_is_taken(tmp_path: Path, device: str, reason: str) -> None:
    save_file(STATE, tmp_path / "net.safetensors")
    problem = failed(model_of(tmp_path, "raise SystemExit('this ran')", device=device), tmp_path)
    assert problem.code == "device_missing"
    assert f"the plan computes on {device}, and there is none: torch 2." in problem.message
    assert reason in problem.message
    assert "Set model.device: cpu in the spec and build again" in problem.message


OTHERS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        assert not self.training and not torch.is_grad_enabled()
        assert x.dtype == self.w.dtype == torch.KIND
        return {"half": x * 2, "count": (x > 1).sum(1), "unused": x, "wide": x.double(), "yes": x > 1}
"""


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_it_computes_in_the_planned_type_and_answers_in_the_declared(tmp_path: Path, kind: str) -> None:
    save_file({"w": torch.zeros(2, dtype=torch.float16)}, tmp_path / "net.safetensors")
    outputs = (
        TensorSpec("half", "float16", ("batch", 2)),
        TensorSpec("count", "int64", ("batch",)),
        TensorSpec("wide", "float32", ("batch", 2)),
        TensorSpec("yes", "bool", ("batch", 2)),
    )
    model = model_of(tmp_path, OTHERS.replace("KIND", kind), outputs, dtype=kind)
    model.load({"artifacts": tmp_path})
    x = np.array([[1.5, 0.5], [2.0, 3.0]], dtype=np.float32)
    x.setflags(write=False)
    found = model.predict({"x": x})
    assert {name: array.dtype.name for name, array in found.items()} == {
        "half": "float16",
        "count": "int64",
        "wide": "float32",
        "yes": "bool",
    }
    assert found["half"].tolist() == [[3.0, 1.0], [4.0, 6.0]]
    assert found["count"].tolist() == [1, 2]
    model.health()
    assert model.memory_bytes() == {}
    model.close()
    with pytest.raises(ServiceError, match="isn't loaded"):
        model.predict({"x": x})


def test_a_payload_in_the_place_of_a_state_dict_does_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch_files.saved(tmp_path / "net.pt", torch_files.running(f"touch {canary}"))
    problem = failed(model_of(tmp_path, LINEAR, file="net.pt", format="state-dict"), tmp_path)
    assert "net.pt can't be read" in problem.message
    assert not canary.exists()


def test_a_program_that_was_exchanged_is_not_loaded(digits: Digits, tmp_path: Path) -> None:
    """Not by the runtime's check of all files, which is the first, nor by the runner's own right before it loads."""
    bundle = bundle_of(digits, tmp_path, "digits.pt2")
    canary, file = tmp_path / "canary", tmp_path / "model/digits.pt2"
    payload = {"archive_format": b"pt2", "data/sample_inputs/model.pt": torch_files.running(f"touch {canary}")}
    torch_files.archive(file, payload)

    async def check() -> None:
        async with serving(bundle, wait=False) as service:
            wait_until(lambda: service.model._problem is not None)
            response = await service.client.get("/health")
            assert response.status_code == 503
            assert response.json()["error"]["code"] == "model_mismatch"

    asyncio.run(check())
    settings = plan_of(bundle)["runtime"]["runner"]["settings"]
    inputs, outputs = (
        (TensorSpec(s["name"], s["dtype"], tuple(s["shape"])),) for s in (settings["inputs"][0], settings["outputs"][0])
    )
    model = create_model(ModelContext(settings["model"], inputs, outputs, bundle))
    problem = failed(model, tmp_path / "model")
    assert problem.code == "model_mismatch"
    assert "isn't the file that is trusted" in problem.message
    assert not canary.exists()


def test_without_a_compiler_compiling_is_an_error_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(STATE, tmp_path / "net.safetensors")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    problem = failed(model_of(tmp_path, LINEAR, compile=True), tmp_path)
    assert "install g++, or leave model.compile out" in problem.message
