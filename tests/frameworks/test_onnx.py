"""The runner `onnx`: the digits network by real onnxruntime, over HTTP, and what its files are read as."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import mlspec
import onnx_files
from frameworks.built import build, plan_of, serving
from frameworks.digits import Digits
from mlspec.runners.onnx.graph import read_graph
from mlspec.runners.onnx.versions import READS, pinned
from runtime.services import Service, wait_until

pytestmark = pytest.mark.frameworks

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: digits, project: tests}}
model:
  runner: onnx
  artifacts: {{path: model}}
  {more}
service:
  limits: {{max_body_bytes: 16777216}}
targets: [{{name: here, platform: linux, machine: {{memory_gb: 8, cpus: 2}}}}]
"""


def built(folder: Path, more: str = "") -> Path:
    bundle, told = build(folder, SPEC.format(more=more))
    assert bundle, told
    return bundle


def saved(folder: Path, model: Any, **options: Any) -> None:
    (folder / "model").mkdir(exist_ok=True)
    onnx.save(model, folder / "model" / "model.onnx", **options)


def made(nodes: Any, inputs: Any, outputs: Any, opset: int = 20, **more: Any) -> Any:
    graph = helper.make_graph(nodes, "g", inputs, outputs, **more)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    return model


async def asked(service: Service, inputs: dict[str, Any], status: int = 200) -> dict[str, Any]:
    response = await service.client.post("/predict", json={"inputs": inputs})
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer["error"] if status != 200 else answer["outputs"]


def answers(bundle: Path, *inputs: dict[str, Any], status: int = 200) -> list[dict[str, Any]]:
    async def ask() -> list[dict[str, Any]]:
        async with serving(bundle) as service:
            return list(await asyncio.gather(*(asked(service, one, status) for one in inputs)))

    return asyncio.run(ask())


@pytest.mark.parametrize("external", [False, True], ids=["one file", "external data"])
def test_the_classes_are_those_of_torch(tmp_path: Path, digits: Digits, external: bool) -> None:
    source = digits.folder / "external" if external else digits.folder
    (tmp_path / "model").mkdir()
    for file in source.glob("digits.onnx*"):
        shutil.copy(file, tmp_path / "model")
    bundle = built(tmp_path)
    parts = [{"image": part.tolist()} for part in np.array_split(digits.images, 7)]
    logits = np.concatenate([np.array(answer["logits"]) for answer in answers(bundle, *parts)])
    assert np.array_equal(logits.argmax(1), digits.classes)
    assert np.abs(logits - digits.logits).max() < 1e-4
    planned = plan_of(bundle)["runtime"]
    assert planned["runner"]["settings"]["batching"]["max_rows"] > 1
    names = [file["path"] for file in planned["models"][0]["files"]]
    assert names == (["digits.onnx", "digits.onnx.data"] if external else ["digits.onnx"])


def test_a_file_of_tensors_that_was_changed_is_told_at_start(tmp_path: Path, digits: Digits) -> None:
    shutil.copytree(digits.folder / "external", tmp_path / "model")
    bundle = built(tmp_path)
    data = tmp_path / "model" / "digits.onnx.data"
    data.write_bytes(bytes(data.stat().st_size))

    async def check() -> str:
        async with serving(bundle, wait=False) as service:
            wait_until(lambda: service.model._problem is not None)
            return (await service.client.get("/health")).text

    assert "model_mismatch" in asyncio.run(check())


def test_texts_in_and_out(tmp_path: Path) -> None:
    texts, twice = (helper.make_tensor_value_info(name, TensorProto.STRING, ["rows"]) for name in ("texts", "twice"))
    saved(tmp_path, made([helper.make_node("StringConcat", ["texts", "texts"], ["twice"])], [texts], [twice]))
    found = answers(built(tmp_path), {"texts": ["abc", "grün"]}, {"texts": ["x"]}, {"texts": [""]})
    assert found == [{"twice": ["abcabc", "grüngrün"]}, {"twice": ["xx"]}, {"twice": [""]}]


def test_names_that_no_request_could_have(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["batch", 2])
    y = helper.make_tensor_value_info("Add:0", TensorProto.FLOAT, ["batch", 2])
    saved(tmp_path, made([helper.make_node("Add", ["input.1", "input.1"], ["Add:0"])], [x], [y]))
    assert answers(built(tmp_path), {"input_1": [[1, 2.5]]}) == [{"Add_0": [[2, 5]]}]


def test_one_output_of_several_is_computed_if_one_is_declared(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("a", "b")]
    saved(tmp_path, made([helper.make_node(op, ["x"], [n]) for op, n in (("Abs", "a"), ("Neg", "b"))], [x], outputs))
    bundle = built(tmp_path, "outputs: [{name: b, shape: [batch, 2]}]")
    assert answers(bundle, {"x": [[1, -2]]}) == [{"b": [[-1, 2]]}]


def test_a_batch_of_a_fixed_size_is_computed_alone(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    saved(tmp_path, made([helper.make_node("Neg", ["x"], ["y"])], [x], [y]))
    bundle = built(tmp_path)
    assert plan_of(bundle)["runtime"]["runner"]["settings"]["batching"]["max_rows"] == 1
    assert answers(bundle, *({"x": [[n, 1]]} for n in range(5))) == [{"y": [[-n, -1]]} for n in range(5)]
    assert answers(bundle, {"x": [[1, 2], [3, 4]]}, status=422)[0]["field"] == "inputs.x"


def test_values_that_the_model_cannot_take_are_the_clients_fault(tmp_path: Path) -> None:
    """A place beyond the end of a table, as a token beyond those that a model knows."""
    at = helper.make_tensor_value_info("at", TensorProto.INT64, ["batch"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])
    table = helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    saved(tmp_path, made([helper.make_node("Gather", ["table", "at"], ["y"])], [at], [y], initializer=[table]))
    bundle = built(tmp_path)
    (error,) = answers(bundle, {"at": [0, 7]}, status=422)
    assert (error["code"], error["field"]) == ("invalid_request", "inputs")
    assert answers(bundle, {"at": [2, 0]}) == [{"y": [3, 1]}]


@pytest.mark.parametrize("provider", ["coreml", "cuda"])
def test_a_provider_that_is_not_to_be_had_is_an_error_at_start(tmp_path: Path, digits: Digits, provider: str) -> None:
    (tmp_path / "model").mkdir()
    shutil.copy(digits.folder / "digits.onnx", tmp_path / "model")
    bundle = built(tmp_path)
    runner = plan_of(bundle)["runtime"]["runner"]
    runner["settings"]["model"]["provider"] = provider
    runner["module"] = "mlspec.runners.onnx.runtime"

    async def check() -> dict[str, Any]:
        async with serving(bundle, wait=False, runner=runner) as service:
            wait_until(lambda: service.model._problem is not None)
            answer: dict[str, Any] = (await service.client.get("/health")).json()["error"]
            return answer

    error = asyncio.run(check())
    assert error["code"] == "load_failed"
    assert "ExecutionProvider here, only" in error["message"]
    assert "provider: cpu" in error["message"]


def examples() -> dict[str, Any]:
    """Models of many forms, and what the library itself reads of them follows in the test."""
    f = TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, f, ["N", 4]) for name in "xy")
    w = helper.make_tensor("w", f, [4, 4], np.ones(16, np.float32).tobytes(), raw=True)
    typed = helper.make_tensor("w", f, [4, 4], [1.0] * 16)
    old = helper.make_tensor_value_info("w", f, [4, 4])
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["w"], value=helper.make_tensor("any", f, [4, 4], [2.0] * 16))
    inner = helper.make_graph([constant, matmul], "then", [], [helper.make_tensor_value_info("y", f, None)])
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    halves = helper.make_tensor("w", TensorProto.FLOAT16, [4, 4], np.ones(16, np.float16).tobytes(), raw=True)
    return {
        "raw": made([matmul], [x], [y], initializer=[w]),
        "typed": made([matmul], [x], [y], initializer=[typed]),
        "initializer among the inputs": made([matmul], [x, old], [y], initializer=[w]),
        "constant": made([constant, matmul], [x], [y]),
        "branches": made([branch], [x, c], [y]),
        "cast": made([helper.make_node("Cast", ["w"], ["v"], to=f), helper.make_node("MatMul", ["x", "v"], ["y"])],
                     [x], [y], initializer=[halves]),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(examples()))
@pytest.mark.parametrize("external", [False, True])
def test_a_file_is_read_as_the_library_reads_it(tmp_path: Path, name: str, external: bool) -> None:
    model = examples()[name]
    path = tmp_path / "m.onnx"
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "m.data"} if external else {}
    onnx.save(model, path, convert_attribute=True, **options) if external else onnx.save(model, path)
    read, known = read_graph(path), onnx.load(path, load_external_data=False)
    stored = {tensor.name for tensor in known.graph.initializer}
    assert [value.name for value in read.inputs] == [v.name for v in known.graph.input if v.name not in stored]
    assert [value.name for value in read.outputs] == [value.name for value in known.graph.output]
    assert read.ir_version == known.ir_version
    assert read.opsets == {found.domain or "ai.onnx": found.version for found in known.opset_import}
    if (tmp_path / "m.data").exists():
        assert list(read.files) == ["m.data"]
        assert 0 < read.files["m.data"] <= (tmp_path / "m.data").stat().st_size


def test_the_tests_own_writer_makes_models(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(onnx_files.simple(tmp_path / "m.onnx")), full_check=True)


def opens(**versions: int) -> bool:
    """Whether the installed onnxruntime opens a model of these versions."""
    model = onnx_files.model(
        [onnx_files.value("x", onnx_files.FLOAT, [1])],
        [onnx_files.value("y", onnx_files.FLOAT, [1])],
        **versions,  # type: ignore[arg-type]
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        return False
    return True


def test_the_versions_that_are_read_are_those_that_onnxruntime_says() -> None:
    newest = READS[".".join(onnxruntime.__version__.split(".")[:2])]
    for key, last in (("ir_version", newest.ir_version), ("opset", newest.opsets["ai.onnx"])):
        assert [opens(**{key: last}), opens(**{key: last + 1})] == [True, False]


def test_each_pinned_version_is_known() -> None:
    files = (Path(mlspec.__file__).parent / "runners/onnx/requirements").glob("*.txt")
    versions = [pinned(file.read_text().splitlines()) for file in files]
    assert len(versions) == 4
    assert {".".join(version.split(".")[:2]) for version in versions} <= set(READS)


def test_external_data_of_hugging_faces_cache(tmp_path: Path, digits: Digits) -> None:
    """There a model's files are links to others beside its folder."""
    blobs, folder = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for number, name in enumerate(("digits.onnx", "digits.onnx.data")):
        shutil.copy(digits.folder / "external" / name, blobs / str(number))
        (folder / name).symlink_to(Path("../../blobs") / str(number))
    spec = SPEC.format(more="").replace("{path: model}", "{path: cache/snapshots/0123}")
    bundle, told = build(tmp_path, spec)
    assert bundle, told
    (found,) = answers(bundle, {"image": digits.images[:4].tolist()})
    np.testing.assert_allclose(found["logits"], digits.logits[:4], atol=1e-4)


def test_the_list_of_operators_is_that_of_the_installed_onnxruntime() -> None:
    tool = Path(__file__).parents[1] / "tools" / "onnx_operators.py"
    assert subprocess.run([sys.executable, str(tool), "--check"], check=False).returncode == 0
