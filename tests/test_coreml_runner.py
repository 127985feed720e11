"""The build side of the runner `coreml`: what a package takes and gives, what a spec may declare, which Macs it needs.

Packages are written here field by field (FeatureTypes.proto of coremltools 9); those of coremltools itself are in
tests/frameworks.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlspec import pipeline
from mlspec.diagnostics import Report
from mlspec.model_files import BadModelFileError
from mlspec.resources import folder as shipped
from mlspec.runners.coreml.build import PART
from mlspec.runners.coreml.runtime import Limit, check_platform
from mlspec.runners.coreml.runtime_shapes import parts
from mlspec.runners.coreml.specification import Feature, read_specification
from mlspec_runtime.errors import ServiceError
from projects import built, surroundings

SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: net, project: tests}}
model:
  runner: coreml
  artifacts: {{path: model}}
  {more}
targets: [{{name: here, {target}}}]
"""
MAC = 'machine: {chip: Apple M4, memory_gb: 24, macos: "15.1"}'
FLOAT32, INT32 = 65568, 131104


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def array(shape: tuple[int, ...], more: bytes = b"", dtype: int = FLOAT32) -> bytes:
    return field(5, field(1, b"".join(map(varint, shape))) + field(2, dtype) + more)


def ranges(*sizes: tuple[int, int]) -> bytes:
    return field(31, b"".join(field(1, field(1, least) + field(2, most)) for least, most in sizes))


def shapes(*all_of_them: tuple[int, ...]) -> bytes:
    return field(21, b"".join(field(1, b"".join(field(1, size) for size in shape)) for shape in all_of_them))


def feature(number: int, name: str, type: bytes) -> bytes:
    return field(number, field(1, name) + field(3, type))


IMAGE = field(4, field(1, 32) + field(2, 24) + field(3, 20))
CLASSES = feature(10, "label", field(3, b"")) + feature(10, "chances", field(6, field(2, b"")))


def package(folder: Path, description: bytes, version: int = 7, more: bytes = b"") -> Path:
    """A package with this description of its model."""
    place = folder / "model" / "net.mlpackage"
    (place / "Data" / "com.apple.CoreML").mkdir(parents=True)
    entry = {"path": "com.apple.CoreML/model.mlmodel", "name": "model.mlmodel", "author": "com.apple.CoreML"}
    listed = {"fileFormatVersion": "1.0.0", "itemInfoEntries": {"one": entry}, "rootModelIdentifier": "one"}
    (place / "Manifest.json").write_text(json.dumps(listed))
    content = field(1, version) + field(2, description) + field(502, b"\0" * 1000) + more
    (place / "Data" / entry["path"]).write_bytes(content)
    return place


def spec(folder: Path, more: str = "", target: str = MAC) -> Path:
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    path = folder / "spec.yaml"
    path.write_text(SPEC.format(more=more, target=target))
    return path


def planned(folder: Path, more: str = "", target: str = MAC) -> dict[str, Any]:
    """The settings of the runner."""
    files = built(folder, spec(folder, more, target))
    plan = json.loads(next(text for name, text in files.items() if name.endswith("plan.json")))
    settings: dict[str, Any] = plan["runtime"]["runner"]["settings"]
    return settings


def faults(folder: Path, more: str = "", target: str = MAC) -> Iterator[tuple[str, str]]:
    report = Report()
    pipeline.check([spec(folder, more, target)], surroundings(folder), report)
    yield from ((found.code, found.message) for found in report)


X_TO_Y = feature(1, "x", array((1, 4), ranges((1, 64), (4, 4)))) + feature(10, "y", array((1, 2)))


def test_the_signature_is_the_packages(tmp_path: Path) -> None:
    description = feature(1, "x", array((1, 4), ranges((1, -1), (4, 4)))) + feature(1, "photo", IMAGE)
    package(tmp_path, description + feature(10, "y.2", array((1, 2), dtype=INT32)) + feature(10, "sum", field(2, b"")))
    settings = planned(tmp_path)
    assert settings["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": ["batch", 4]},
        {
            "name": "photo",
            "dtype": "uint8",
            "shape": [24, 32, 3],
            "image": {"mode": "rgb", "layout": "channels_last", "divide_by": 1.0, "max_pixels": 16777216},
        },
    ]
    assert settings["outputs"] == [
        {"name": "y_2", "dtype": "int32", "shape": [1, 2]},
        {"name": "sum", "dtype": "float64", "shape": []},
    ]
    assert settings["model"] == {
        "file": "net.mlpackage",
        "images": ["photo"],
        "limits": {"x": {"ranges": [[1, None], [4, 4]], "shapes": []}},
        "names": {"y_2": "y.2"},
        "compute_units": "all",
    }


def test_sizes_that_are_listed_arent_stacked(tmp_path: Path) -> None:
    package(tmp_path, feature(1, "x", array((1, 4), shapes((1, 4), (8, 4)))) + feature(10, "y", array((1, 2))))
    more = "outputs: [{name: y, shape: [1, 2]}]"
    settings = planned(tmp_path, more)
    assert settings["inputs"][0]["shape"] == ["batch", 4]
    assert settings["model"]["limits"]["x"]["shapes"] == [[1, 4], [8, 4]]
    assert settings["batching"]["max_rows"] == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("inputs: [{name: z, shape: [batch, 4]}]", "the file has no input 'z'"),
        ("inputs: [{name: x, shape: [batch, 4], dtype: int32}]", "'x' is float32 in the file"),
        ("inputs: [{name: x, shape: [batch, 5]}]", "there its dimension 1 is always 4"),
        ("inputs: [{name: x, shape: [batch, 4, 1]}]", "of 2 dimensions; declared are 3"),
        ("inputs: [{name: x, shape: [65, 4]}]", "'x' has 65 in dimension 0, where the package takes 1 to 64"),
        ("outputs: [{name: y, shape: [batch, 2]}]", "there its dimension 0 is always 1"),
    ],
)
def test_declarations_are_held_against_the_package(tmp_path: Path, more: str, said: str) -> None:
    package(tmp_path, X_TO_Y)
    found = list(faults(tmp_path, more))
    assert {code for code, _ in found} == {"wrong-signature"}
    assert any(said in message for _, message in found), found


def test_what_no_answer_can_hold_may_be_left_out(tmp_path: Path) -> None:
    package(tmp_path, X_TO_Y + CLASSES)
    assert [message for _, message in faults(tmp_path)] == ["output 'chances' is a dictionary"]
    settings = planned(tmp_path, "outputs: [{name: label, dtype: string, shape: []}, {name: y, shape: [1, 2]}]")
    assert [one["name"] for one in settings["outputs"]] == ["label", "y"]


@pytest.mark.parametrize("field_number", [13, 20])
def test_states_and_functions_are_refused(tmp_path: Path, field_number: int) -> None:
    package(tmp_path, X_TO_Y + field(field_number, field(1, "s")))
    assert [code for code, _ in faults(tmp_path)] == ["model-format"]


@pytest.mark.parametrize(("version", "macos"), [(7, "12.6"), (9, "14.5"), (10, "15.1")])
def test_the_macs_system_must_read_it(tmp_path: Path, version: int, macos: str) -> None:
    package(tmp_path, X_TO_Y, version)
    found = dict(faults(tmp_path, target=MAC.replace("15.1", macos).replace("M4", "M1").replace("24", "8")))
    assert f"the target 'here' has {macos}" in found["target-mismatch"]


def test_linux_has_no_core_ml(tmp_path: Path) -> None:
    package(tmp_path, X_TO_Y)
    message = "Core ML is a part of macOS, and the target 'here' is for linux"
    assert list(faults(tmp_path, target="platform: linux")) == [("target-mismatch", message)]


def broken(content: bytes) -> bytes:
    return field(1, 7) + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 40,
        broken(b""),
        broken(field(2, b"")),
        broken(field(2, b"\x0a\xff")),
        broken(field(2, feature(10, "", array((1,))))),
        broken(field(2, feature(10, "y", b""))),
        broken(field(2, feature(10, "y", array((1,), dtype=7)))),
        broken(field(2, feature(1, "x", field(4, field(3, 99))) + feature(10, "y", array((1,))))),
        broken(field(2, X_TO_Y))[:-3],
        field(1, 10**9) + field(2, X_TO_Y),
    ],
    ids=range(11),
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.mlmodel").write_bytes(content)
    with pytest.raises(BadModelFileError):
        read_specification(tmp_path / "model.mlmodel")


def test_weights_in_the_specification_are_not_read(tmp_path: Path) -> None:
    """Older kinds of models have them there: here 4 GiB of them, in a file with a hole."""
    path, size = tmp_path / "model.mlmodel", 4 << 30
    with path.open("wb") as file:
        file.write(field(1, 4) + varint(500 << 3 | 2) + varint(size))
        file.seek(size, 1)
        file.write(field(2, X_TO_Y))
    assert [one.name for one in read_specification(path).inputs] == ["x"]


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"itemInfoEntries": {}, "rootModelIdentifier": "one"},
        {"itemInfoEntries": {"one": {"path": "../../../secret"}}, "rootModelIdentifier": "one"},
        {"itemInfoEntries": {"one": {"path": "/etc/passwd"}}, "rootModelIdentifier": "one"},
        {"itemInfoEntries": {"one": {"path": 1}}, "rootModelIdentifier": "one"},
        {"itemInfoEntries": [], "rootModelIdentifier": []},
    ],
)
def test_a_packages_list_leads_nowhere_else(tmp_path: Path, manifest: dict[str, Any]) -> None:
    (tmp_path / "secret").write_bytes(field(1, 7) + field(2, X_TO_Y))
    (package(tmp_path, X_TO_Y) / "Manifest.json").write_text(json.dumps(manifest))
    assert [code for code, _ in faults(tmp_path)] == ["bad-model-file"]


def test_a_pickle_in_a_package_is_refused(tmp_path: Path) -> None:
    (package(tmp_path, X_TO_Y) / "Data" / "extra.bin").write_bytes(
        b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x8c\x06system\x93."
    )
    assert [code for code, _ in faults(tmp_path)] == ["pickle"]


def test_features_come_back_from_a_lock() -> None:
    whole = Feature("x", "array", "float32", (1, 4), ((1, None), (4, 4)), ((1, 4),), optional=True)
    for one in (whole, Feature("y", "string"), Feature("z", "image", "uint8", (2, 2), color="rgb")):
        assert Feature.from_data(json.loads(json.dumps(one.as_data()))) == one


@pytest.mark.parametrize("details", [{}, {"version": 7, "inputs": [1], "outputs": [], "states": 0, "functions": 0}])
def test_a_locks_nonsense_isnt_believed(details: dict[str, Any]) -> None:
    (ref,) = PART.models(PART.model_type.model_validate({"runner": "coreml", "artifacts": {"path": "x"}}))
    with pytest.raises(ValueError, match="not the facts of a Core ML package"):
        PART.believe(ref, details)


def test_a_conversion_is_planned_without_torch(tmp_path: Path) -> None:
    """A plan runs no code of the network's, and needs nothing to convert with."""
    shutil.copytree(shipped("specs") / "models" / "digits", tmp_path / "model")
    (tmp_path / "model" / "net.py").write_text("raise SystemExit('it ran')\n")
    more = """convert: {trusted: true, module: net.py, class: Net, max_rows: 16}
  inputs: [{name: image, shape: [batch, 1, 8, 8]}]
  outputs: [{name: scores, shape: [batch, 10]}]"""
    report = Report()
    (place,) = pipeline.build([spec(tmp_path, more)], surroundings(tmp_path), None, report, models=False)
    assert not list(report)
    runtime = json.loads((place / "plan.json").read_text())["runtime"]
    (model,) = runtime["models"]
    assert model["derived"]["settings"]["class"] == "Net"
    assert [file["path"] for file in model["files"]] == ["digits.safetensors", "net.py"]
    ranges = [[1, 16], [1, 1], [8, 8], [8, 8]]
    assert runtime["runner"]["settings"]["model"]["limits"] == {"image": {"ranges": ranges, "shapes": []}}
    assert not (place / "user").exists()


def rows(count: int) -> dict[str, Any]:
    return {"x": np.arange(count * 2, dtype=np.float32).reshape(count, 2), "mode": np.zeros((), np.int32)}


@pytest.mark.parametrize(("count", "lengths"), [(1, [1]), (4, [4]), (5, [4, 1]), (9, [4, 4, 1])])
def test_more_rows_than_it_takes_are_cut(count: int, lengths: list[int]) -> None:
    found = list(parts(rows(count), {"x": Limit(ranges=((1, 4), (2, 2)))}))
    assert [len(part["x"]) for part in found] == lengths
    assert np.array_equal(np.concatenate([part["x"] for part in found]), rows(count)["x"])
    assert all(part["mode"].shape == () for part in found)


@pytest.mark.parametrize(
    "limit", [Limit(ranges=((2, 4), (2, 2))), Limit(ranges=((1, 4), (3, 9))), Limit(shapes=((2, 2), (4, 2)))]
)
def test_other_shapes_are_the_clients_fault(limit: Limit) -> None:
    with pytest.raises(ServiceError) as caught:
        list(parts(rows(1), {"x": limit}))
    assert (caught.value.status, caught.value.field) == (422, "inputs.x")
    assert "this is [1, 2]" in caught.value.message


def test_an_empty_batch_is_the_clients_fault() -> None:
    with pytest.raises(ServiceError):
        list(parts(rows(0), {"x": Limit(ranges=((1, 4), (2, 2)))}))


def test_the_runtime_refuses_other_systems() -> None:
    check_platform("darwin")
    with pytest.raises(ServiceError, match="Start it on a Mac") as caught:
        check_platform("linux")
    assert (caught.value.code, caught.value.status) == ("coreml_needs_macos", 503)
