"""What a build reads of models in ONNX, holds against their specs, and plans. No library of theirs is needed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlspec import pipeline
from mlspec.diagnostics import Report
from mlspec.model.facts import ModelRef
from mlspec.model.spec import Source
from mlspec.model_files import BadModelFileError
from mlspec.pipeline import Pipeline
from mlspec.resources import folder
from mlspec.runners.onnx.facts import believe, read_facts
from mlspec.runners.onnx.graph import read_graph
from mlspec.runners.onnx.runtime import Settings
from mlspec.runners.onnx.runtime_session import provider_options
from onnx_files import FLOAT, INT64, model, part, relu, sequence, simple, value, weight
from payloads import payload
from projects import surroundings

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: demo, project: tests}
model:
  runner: onnx
  artifacts: {path: model}
"""
LINUX = "targets: [{name: here, platform: linux}]\n"
X, Y = value("x", FLOAT, ["batch", 4]), value("y", FLOAT, ["batch", 4])


def project(place: Path, content: bytes, name: str = "m.onnx") -> Path:
    (place / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    (place / "model").mkdir(exist_ok=True)
    (place / "model" / name).write_bytes(content)
    return place


def checked(folder: Path, more: str = "", rest: str = LINUX) -> list[str]:
    """What a check of the spec tells, as `code@place: message (help)`; the place is the text that is underlined."""
    text = SPEC + "".join(f"  {line}\n" for line in more.splitlines()) + rest
    spec, report = folder / "spec.yaml", Report()
    spec.write_text(text)
    pipeline.check([spec], surroundings(folder), report)
    return [f"{d.code}@{_place(text, d)}: {d.message} ({d.help})" for d in report]


def _place(text: str, found: Any) -> str:
    span = found.span
    line = text.splitlines()[span.line - 1]
    return line[span.column - 1 : span.end_column - 1 if span.end_line == span.line else None].strip()


def plan(folder: Path, more: str = "", rest: str = LINUX) -> Any:
    spec, report = folder / "spec.yaml", Report()
    spec.write_text(SPEC + "".join(f"  {line}\n" for line in more.splitlines()) + rest)
    passes = Pipeline(surroundings(folder))
    found = passes.check(spec, report)
    assert found, list(report)
    (made,) = list(passes.plans(found, report))
    assert not list(report)
    return made


def test_the_signature_is_that_of_the_file(tmp_path: Path) -> None:
    settings = plan(project(tmp_path, model([X], [Y]))).runtime["runner"]["settings"]
    assert settings["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}]
    assert settings["outputs"] == [{"name": "y", "dtype": "float32", "shape": ["batch", 4]}]
    assert settings["model"] == {
        "file": "m.onnx",
        "names": {"inputs": {}, "outputs": {}},
        "provider": "cpu",
        "compute_units": "all",
        "threads": 0,
        "cache_key": settings["model"]["cache_key"],
    }


def test_no_library_of_onnx_is_imported(tmp_path: Path) -> None:
    (project(tmp_path, model([X], [Y])) / "spec.yaml").write_text(SPEC + LINUX)
    script = "import sys; from mlspec.cli import main; print(main(['check', 'spec.yaml']), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    code, *imported = done.stdout.split()
    assert (code, "mlspec.protobuf" in imported) == ("0", True)
    assert not {"onnx", "onnxruntime", "google.protobuf"} & set(imported)


def test_dimensions_get_names(tmp_path: Path) -> None:
    inputs = [value("a", FLOAT, [None, "seq * 2", -1]), value("b", INT64, [None, "seq * 2", "2"])]
    outputs = [value("y", FLOAT, [None, "seq * 2"]), value("z", FLOAT, [])]
    settings = plan(project(tmp_path, model(inputs, outputs))).runtime["runner"]["settings"]
    assert [tensor["shape"] for tensor in settings["inputs"]] == [["batch", "seq_2", "a_2"], ["batch", "seq_2", "_2"]]
    assert [tensor["shape"] for tensor in settings["outputs"]] == [["y_0", "seq_2"], []]
    assert settings["batching"]["max_rows"] == 1, "whether the output's first dimension is the batch isn't known"


def test_what_is_declared_names_the_dimensions(tmp_path: Path) -> None:
    folder = project(tmp_path, model([value("x", FLOAT, [None, 4])], [value("y", FLOAT, [None, 4])]))
    made = plan(folder, "outputs: [{name: y, shape: [batch, 4]}]")
    assert made.runtime["runner"]["settings"]["batching"]["max_rows"] > 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("inputs: [{name: z, shape: [batch, 4]}]", "wrong-signature@z: the file has no input 'z' (it has 'x')"),
        (
            "inputs: [{name: x, dtype: int64, shape: [batch, 4]}]",
            "wrong-signature@int64: 'x' is float32 in the file, and declared as int64 (write dtype: float32)",
        ),
        (
            "inputs: [{name: x, shape: [batch]}]",
            "wrong-signature@[batch]: 'x' is [batch, 4] in the file, of 2 dimensions; declared are 1 "
            "(write shape: [batch, 4])",
        ),
        (
            "inputs: [{name: x, shape: [batch, 5]}]",
            "wrong-signature@5: 'x' is [batch, 4] in the file: there its dimension 1 is always 4 "
            "(write 4, or save the model with a dimension that may change)",
        ),
        (
            "outputs: [{name: y, shape: [batch, n]}]",
            "wrong-signature@n: 'y' is [batch, 4] in the file: there its dimension 1 is always 4 "
            "(write 4, or save the model with a dimension that may change)",
        ),
    ],
)
def test_a_wrong_declaration_is_told_at_its_key(tmp_path: Path, more: str, told: str) -> None:
    assert told in checked(project(tmp_path, model([X], [Y])), more)


def test_all_inputs_have_to_be_declared(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X, value("mask", INT64, ["batch", 4])], [Y]))
    (told,) = checked(folder, "inputs: [{name: x, shape: [batch, 4]}]")
    assert "the file also takes 'mask' (int64[batch, 4]), which is not declared" in told


def test_an_output_that_no_answer_can_hold(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X], [value("label", INT64, ["batch"]), sequence("maps")]))
    (told,) = checked(folder)
    assert "output 'maps' is a sequence (declare outputs, without it)" in told
    assert checked(folder, "outputs: [{name: label, dtype: int64, shape: [batch]}]") == []
    assert "is a sequence in the file" in checked(folder, "outputs: [{name: maps, shape: [batch]}]")[0]


def test_a_shape_that_the_file_does_not_tell_is_to_be_declared(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X], [value("y", FLOAT, None)]))
    assert "output 'y' has no shape in the file (declare outputs in the spec)" in checked(folder)[0]
    assert checked(folder, "outputs: [{name: y, shape: [batch, 9]}]") == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"opset": 40}, "is of opset 40 of ai.onnx; onnxruntime 1.32.0 has it up to 28"),
        ({"ir_version": 20}, "is of IR version 20; onnxruntime 1.32.0 reads up to 14"),
    ],
)
def test_a_file_that_is_too_new(tmp_path: Path, changes: dict[str, int], told: str) -> None:
    (found,) = checked(project(tmp_path, model([X], [Y], **changes)))  # type: ignore[arg-type]
    assert found.startswith("model-version@")
    assert told in found


def test_operators_of_others(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X], [Y], nodes=[relu(domain="ai.onnx.contrib")]))
    assert "operators of ai.onnx.contrib, which onnxruntime doesn't have" in checked(folder)[0]
    assert checked(project(tmp_path, model([X], [Y], nodes=[relu(domain="com.microsoft")]))) == []


EXTERNAL = weight("w", [4, 4], location="w.data", offset=64)


def test_external_data_belongs_to_the_model(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X], [Y], weights=[EXTERNAL]))
    (folder / "model" / "w.data").write_bytes(bytes(128))
    (folder / "model" / "other.bin").write_bytes(bytes(128))
    made = plan(folder)
    assert [file["path"] for file in made.runtime["models"][0]["files"]] == ["m.onnx", "w.data"]
    assert made.memory.parts[0].bytes == 64


@pytest.mark.parametrize("size", [0, 127])
def test_external_data_that_was_cut_off(tmp_path: Path, size: int) -> None:
    folder = project(tmp_path, model([X], [Y], weights=[EXTERNAL]))
    (folder / "model" / "w.data").write_bytes(bytes(size))
    (told,) = checked(folder)
    assert told.startswith("bad-model-file@")
    assert f"'w.data' has {size} bytes; the tensors of m.onnx need 128" in told


@pytest.mark.parametrize(
    "place", ["../w.data", "/etc/passwd", "a/../../w.data", "..\\w.data", "", "a\x00b", "a\x1b[2J"]
)
def test_external_data_elsewhere_is_refused(tmp_path: Path, place: str) -> None:
    folder = project(tmp_path, model([X], [Y], weights=[weight("w", [4], location=place)]))
    (folder / "w.data").write_bytes(bytes(128))
    (told,) = checked(folder)
    assert "which is no file of the model's folder" in told


def test_a_link_to_external_data_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X], [Y], weights=[EXTERNAL]))
    (folder / "w.data").write_bytes(bytes(128))
    (folder / "model" / "w.data").symlink_to(folder / "w.data")
    assert "leads out of the model's folder" in checked(folder)[0]


def test_tensors_within_nodes_and_their_graphs_are_found(tmp_path: Path) -> None:
    inner = part(5, weight("deep", [8], location="deep.data")) + part(2, "then")
    nodes = [relu(attributes=part(5, part(6, inner)) + part(5, part(5, weight("c", [2], location="c.data"))))]
    graph = read_graph(project(tmp_path, model([X], [Y], nodes=nodes)) / "model" / "m.onnx")
    assert graph.files == {"deep.data": 32, "c.data": 8}


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 100, b"plain text, no model\n", model([X], [Y])[:-9], b"\x08\x0a", bytes([255]) * 50, b"\x08" * 30],
)
def test_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    (told,) = checked(project(tmp_path, content))
    assert told.startswith("bad-model-file@")
    assert "is no model in ONNX" in told


def test_graphs_that_are_nested_without_end(tmp_path: Path) -> None:
    graph = part(2, "g")
    for _ in range(200):
        graph = part(1, part(5, part(6, graph)))
    path = project(tmp_path, model([X], [Y], nodes=[part(5, part(6, graph))])) / "model" / "m.onnx"
    with pytest.raises(BadModelFileError, match="nested too deeply"):
        read_graph(path)


@pytest.mark.parametrize("protocol", [0, 4])
def test_a_pickle_of_this_name_is_refused(tmp_path: Path, protocol: int) -> None:
    (told,) = checked(project(tmp_path, payload(tmp_path / "ran", protocol)))
    assert told.startswith("pickle@")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("more", "target", "provider"),
    [
        ("", "{name: here, platform: macos}", "coreml"),
        ("provider: cpu", "{name: here, platform: macos}", "cpu"),
        ("", "{name: here, platform: linux}", "cpu"),
        ("", "{name: here, platform: linux, accelerator: cuda12}", "cuda"),
        ("", "{name: here, platform: linux, accelerator: cuda13, arch: arm64}", "cuda"),
    ],
)
def test_the_provider_is_that_of_the_target(tmp_path: Path, more: str, target: str, provider: str) -> None:
    made = plan(project(tmp_path, model([X], [Y])), more, f"targets: [{target}]\n")
    assert made.value("model.provider") == provider
    assert any(line.startswith("onnxruntime") for line in made.requirements)


@pytest.mark.parametrize(
    ("more", "target", "told"),
    [
        ("provider: coreml", "{name: here, platform: linux}", "computes on cpu, which Core ML doesn't reach"),
        ("provider: cuda", "{name: here, platform: macos}", "computes on metal, which CUDA doesn't reach"),
        ("", "{name: here, platform: linux, accelerator: cuda12, arch: arm64}", "no build for CUDA 12 on arm64"),
    ],
)
def test_a_provider_that_the_target_lacks(tmp_path: Path, more: str, target: str, told: str) -> None:
    (found,) = checked(project(tmp_path, model([X], [Y])), more, f"targets: [{target}]\n")
    assert found.startswith("target-mismatch@")
    assert told in found


def test_threads_are_the_targets_cores(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X], [Y]))
    target = "targets: [{name: here, platform: linux, machine: {memory_gb: 8, cpus: 6}}]\n"
    assert plan(folder, "", target).value("model.threads") == 6
    assert plan(folder, "threads: 2", target).value("model.threads") == 2


def test_of_several_files_one_has_to_be_named(tmp_path: Path) -> None:
    folder = project(tmp_path, model([X], [Y]))
    simple(folder / "model" / "other.onnx")
    assert checked(folder)[0].startswith("model-format@")
    assert plan(folder, "file: other.onnx").runtime["runner"]["settings"]["model"]["file"] == "other.onnx"


def test_a_lock_knows_the_signature(tmp_path: Path) -> None:
    from mlspec.cli import main

    folder = project(tmp_path, model([X], [Y]))
    before = plan(folder).runtime
    assert main(["lock", str(folder / "spec.yaml")]) == 0
    (folder / "model" / "m.onnx").unlink()
    (folder / "model").rmdir()
    after = plan(folder).runtime
    assert after["runner"] == before["runner"]
    lock = folder / "spec.lock.yaml"
    lock.write_text(lock.read_text().replace('"float32"', '"float33"'))
    assert checked(folder)[0].startswith("bad-lock@")


@given(st.integers(0, 10**9), st.binary(min_size=1, max_size=8))
@settings(max_examples=400, deadline=None)
def test_broken_files_end_in_a_fault_or_in_facts(tmp_path_factory: pytest.TempPathFactory, at: int, by: bytes) -> None:
    whole = (folder("specs") / "models/digits-onnx/digits.onnx").read_bytes()
    # What isn't weights is at both ends.
    place = at % 4000 if at % 2 else len(whole) - 1 - at % 4000
    path = tmp_path_factory.getbasetemp() / "broken.onnx"
    path.write_bytes(whole[:place] + by + whole[place + len(by) :])
    ref = ModelRef("artifacts", Source(path="."), ("artifacts",))
    # Anything else that is raised fails this.
    with suppress(BadModelFileError):
        believe(read_facts(ref, path.parent, path.name).details)


@pytest.mark.parametrize(
    ("units", "name"),
    [("all", "ALL"), ("cpu_only", "CPUOnly"), ("cpu_and_gpu", "CPUAndGPU"), ("cpu_and_ne", "CPUAndNeuralEngine")],
)
def test_what_core_ml_is_asked_for(tmp_path: Path, units: str, name: str) -> None:
    settings = Settings(file="m.onnx", provider="coreml", compute_units=units, cache_key="abc")
    place = tmp_path / "coreml" / "abc"
    found = provider_options(settings, {"MLSPEC_CACHE_DIR": str(tmp_path)})
    assert found == {"ModelFormat": "MLProgram", "MLComputeUnits": name, "ModelCacheDirectory": str(place)}
    assert place.is_dir()
    assert provider_options(Settings(file="m.onnx", provider="cuda"), {}) == {}


def test_without_a_place_core_ml_compiles_at_each_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(file="m.onnx", provider="coreml", cache_key="abc")
    assert "ModelCacheDirectory" not in provider_options(settings, {"MLSPEC_CACHE_DIR": str(tmp_path / "file")})


def test_another_model_has_another_place(tmp_path: Path) -> None:
    first = plan(project(tmp_path, model([X], [Y]))).runtime["runner"]["settings"]["model"]["cache_key"]
    other = plan(project(tmp_path, model([X], [Y], opset=19))).runtime["runner"]["settings"]["model"]["cache_key"]
    assert first != other


@pytest.mark.parametrize(
    ("operator", "domain", "opset", "told"),
    [
        ("Frobnicate", "", 20, "m.onnx has the operator 'Frobnicate', which onnxruntime doesn't have in opset 20"),
        ("Frobnicate", "ai.onnx", 20, "the operator 'Frobnicate'"),
        ("Gelu", "", 19, "the operator 'Gelu', which onnxruntime doesn't have in opset 19 of ONNX's own domain"),
    ],
)
def test_an_operator_that_there_is_not(tmp_path: Path, operator: str, domain: str, opset: int, told: str) -> None:
    content = model([X], [Y], nodes=[relu(operator=operator, domain=domain)], opset=opset)
    (found,) = checked(project(tmp_path, content))
    assert found.startswith("model-format@")
    assert told in found


@pytest.mark.parametrize(
    ("operator", "domain"), [("Gelu", ""), ("SimplifiedLayerNormalization", ""), ("Gelu", "ai.onnx")]
)
def test_operators_that_there_are(tmp_path: Path, operator: str, domain: str) -> None:
    assert not checked(project(tmp_path, model([X], [Y], nodes=[relu(operator=operator, domain=domain)])))


def test_an_operator_that_the_file_defines_itself(tmp_path: Path) -> None:
    content = model([X], [Y], nodes=[relu(operator="Mine")]) + part(25, part(1, "Mine") + part(7, relu()))
    assert not checked(project(tmp_path, content))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            "outputs: [{name: y, shape: [m, 4]}]\ninputs: [{name: x, shape: [n, 4]}]",
            "'batch' of the file is declared as n for 'x', and as m for 'y'",
        ),
        (
            "outputs: [{name: y, shape: [3, 4]}]\ninputs: [{name: x, shape: [2, 4]}]",
            "declared as 2 for 'x', and as 3 for 'y'",
        ),
    ],
)
def test_dimensions_that_are_equal_in_the_file_are_declared_so(tmp_path: Path, more: str, told: str) -> None:
    (found,) = checked(project(tmp_path, model([X], [Y])), more)
    assert found.startswith(("wrong-signature@m:", "wrong-signature@3:"))
    assert told in found


def test_dimensions_without_a_name_in_the_file_are_declared_as_anything(tmp_path: Path) -> None:
    inputs = [value("a", FLOAT, [None, 4]), value("b", FLOAT, [None, 4])]
    folder = project(tmp_path, model(inputs, [Y]))
    assert not checked(folder, "inputs: [{name: a, shape: [n, 4]}, {name: b, shape: [m, 4]}]")


def test_units_of_core_ml_without_a_mac_are_a_warning(tmp_path: Path) -> None:
    (found,) = checked(project(tmp_path, model([X], [Y])), "compute_units: cpu_only")
    assert found.startswith("target-mismatch@")
    assert "no target is a Mac" in found
    both = "targets: [{name: here, platform: linux}, {name: mac, platform: macos}]\n"
    assert not checked(tmp_path, "compute_units: cpu_only", both)


def test_a_type_that_no_request_holds_is_exported_as_another(tmp_path: Path) -> None:
    (told,) = checked(project(tmp_path, model([value("x", 16, ["batch", 4])], [Y])))
    assert "bfloat16" in told
    assert "export the model with another type" in told


def test_the_example_tells_nothing_of_who_exported_it() -> None:
    content = (folder("specs") / "models/digits-onnx/digits.onnx").read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
