"""The build side of the runner `mlx`: arrays by their headers, the type that it computes in, and its memory."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlspec import pipeline
from mlspec.diagnostics import Report
from mlspec.model_files import BadModelFileError, Tensor
from mlspec.runners.mlx.build import PART
from mlspec.runners.mlx.npz import npz_arrays
from projects import built, surroundings

MODEL = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {{name: net, project: tests}}
model:
  runner: mlx
  artifacts: {{path: model}}
  module: net.py
  class: Net
  inputs: [{{name: x, dtype: {dtype}, shape: [batch, 4]}}]
  outputs: [{{name: y, shape: [batch, 2]}}]
  {more}
targets: [{{name: here, {target}}}]
"""
MACS = {
    "M1": '{chip: Apple M1, memory_gb: 8, macos: "15.1"}',
    "M4": '{chip: Apple M4, memory_gb: 24, macos: "15.1"}',
}
LINUX = "platform: linux, machine: {memory_gb: 8, cpus: 4}"


def safetensors(path: Path, entries: Mapping[str, tuple[str, list[int], int]]) -> None:
    """A file of zeros: dtype, shape and bytes by name."""
    header, end = {}, 0
    for name, (dtype, shape, size) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def project(folder: Path, target: str = LINUX, more: str = "", dtype: str = "float32") -> Path:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "net.py").write_text("class Net: ...\n\nraise SystemExit('a build runs no code')\n")
    (folder / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n")
    if not list((folder / "model").iterdir()):
        safetensors(folder / "model" / "net.safetensors", {"w": ("F16", [2, 4], 16), "n": ("I32", [3], 12)})
    spec = folder / "spec.yaml"
    spec.write_text(MODEL.format(target=target, more=more, dtype=dtype))
    return spec


def plan_of(folder: Path, target: str = LINUX, more: str = "") -> dict[str, Any]:
    files = built(folder, project(folder, target, more))
    plan: dict[str, Any] = json.loads(next(text for name, text in files.items() if name.endswith("plan.json")))
    return plan


def settings(plan: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plan["runtime"]["runner"]["settings"]["model"]
    return found


def fault_of(folder: Path, target: str = LINUX, more: str = "", dtype: str = "float32") -> list[tuple[str, str]]:
    report = Report()
    pipeline.check([project(folder, target, more, dtype)], surroundings(folder), report)
    return [(found.code, found.message) for found in report]


@pytest.mark.parametrize(
    ("target", "more", "dtype"),
    [
        (LINUX, "", "float32"),
        (f"machine: {MACS['M1']}", "", "float16"),
        (f"machine: {MACS['M4']}", "", "bfloat16"),
        ("platform: macos", "", "float16"),
        ("platform: linux, accelerator: cuda12", "", "bfloat16"),
        (f"machine: {MACS['M4']}", "dtype: float32", "float32"),
        (f"machine: {MACS['M4']}", "dtype: keep", "float16"),
    ],
)
def test_the_type_is_by_the_chip_or_by_the_spec(tmp_path: Path, target: str, more: str, dtype: str) -> None:
    assert settings(plan_of(tmp_path, target, more))["dtype"] == dtype


def test_with_several_types_keep_casts_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    entries = {"a": ("F16", [2], 4), "b": ("BF16", [2], 4)}
    safetensors(tmp_path / "model" / "net.safetensors", entries)
    assert settings(plan_of(tmp_path, more="dtype: keep"))["dtype"] is None


def test_the_plan_counts_the_weights_as_they_are_cast(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert next((part["name"], part["bytes"]) for part in plan["memory"]["parts"]) == ("weights", 2 * 4 * 4 + 12)


def test_limits_blas_and_threads(tmp_path: Path) -> None:
    linux = plan_of(tmp_path)
    assert settings(linux)["preload_blas"] == "libopenblas.so.0"
    assert linux["runtime"]["environment"]["set"] == {"OPENBLAS_NUM_THREADS": "2"}
    assert settings(linux)["memory"] == {
        "memory_limit_bytes": int(8 * 2**30 * 0.8),
        "cache_limit_bytes": 327 << 20,
        "wired_limit_bytes": None,
    }
    mac = settings(plan_of(tmp_path, f"machine: {MACS['M4']}"))
    assert mac["preload_blas"] is None
    assert mac["memory"]["wired_limit_bytes"] == 1 << 20
    assert mac["memory"]["memory_limit_bytes"] + mac["memory"]["cache_limit_bytes"] < 24 * 2**30 * 0.75


def test_weights_that_dont_fit_are_told(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    safetensors(tmp_path / "model" / "net.safetensors", {"w": ("F16", [5 << 30], 10 << 30)})
    ((code, message),) = fault_of(tmp_path, f"machine: {MACS['M1']}")
    assert code == "does-not-fit"
    assert message.startswith("the weights as float16 need 10.0 GiB")


@pytest.mark.parametrize(
    ("names", "more", "code", "said"),
    [
        (("a.safetensors", "b.npz"), "", "model-format", "'a.safetensors' and 'b.npz' are there"),
        ((), "", "model-format", "there is no file ending in .safetensors or .npz"),
        (("a.safetensors",), "file: b.npz", "bad-model-file", "b.npz: is missing"),
        (("a.safetensors",), "file: a.onnx", "model-format", "'a.onnx' is in no format that this runner reads"),
    ],
)
def test_which_file_it_is(tmp_path: Path, names: tuple[str, ...], more: str, code: str, said: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("none of them")
    for name in names:
        safetensors(tmp_path / "model" / name, {"w": ("F16", [2], 4)})
    ((found, message),) = fault_of(tmp_path, more=more)
    assert (found, said in message) == (code, True), message


def test_texts_are_no_input_of_mlx(tmp_path: Path) -> None:
    assert fault_of(tmp_path, dtype="string") == [("bad-value", "'x': MLX has no arrays of texts")]


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_an_npz_is_known_by_its_headers(tmp_path: Path) -> None:
    arrays = {"a": np.zeros((2, 3), np.float16), "b.c": np.zeros((), np.int64), "d": np.zeros((0, 5), bool)}
    assert npz_arrays(npz(tmp_path / "a.npz", **arrays)) == {
        "a": Tensor("F16", (2, 3), 12),
        "b.c": Tensor("I64", (), 8),
        "d": Tensor("BOOL", (0, 5), 0),
    }
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    assert npz_arrays(tmp_path / "b.npz") == npz_arrays(tmp_path / "a.npz")


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(array: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **more)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{}",
        b"\x93NUMPY\x09\x00\x02\x00{}",
        b"\x93NUMPY\x01\x00\x02\x00{}",
        b"\x93NUMPY\x01\x00\x04\x00\xff\xfe((",
        b"\x93NUMPY\x01\x00\x0c\x00" + b"(" * 12,
        npy(np.zeros(4))[:-1],
        npy(np.zeros(4)) + b"x",
        npy(np.zeros(2, "U3")),
        npy(np.zeros(2, "c8")),
        npy(np.zeros(2, [("a", "f4")])),
        npy(np.array([{}], object), allow_pickle=True),
    ],
    ids=range(13),
)
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadModelFileError):
        npz_arrays(archive(tmp_path / "a.npz", a=content))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(BadModelFileError, match=r"a\.npz: is no \.npz file"):
        npz_arrays(tmp_path / "a.npz")


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


def test_a_pickle_in_an_npz_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    npz(tmp_path / "model" / "net.npz", w=np.array([Bomb()], object))
    ((code, message),) = fault_of(tmp_path)
    assert code == "pickle"
    assert "an array of Python objects" in message


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"file": 1, "floats": {}, "other_bytes": 0},
        {"file": "a", "floats": {"text": 1}, "other_bytes": 0},
        {"file": "a", "floats": {"float16": -1}, "other_bytes": 0},
        {"file": "a", "floats": {"float16": 1}, "other_bytes": "0"},
    ],
)
def test_a_locks_nonsense_isnt_believed(details: dict[str, Any]) -> None:
    ref: Any = None
    with pytest.raises(ValueError, match=r"."):
        PART.believe(ref, details)
