"""The tested constraint sets: pinned, sorted, in agreement, and free of the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MLSPEC = Path(__file__).resolve().parents[1] / "compiler" / "mlspec"
SETS = ("macos", "linux-cpu", "linux-cuda12", "linux-cuda13")
OWNERS = (
    "runners/mlx_lm",
    "runners/python",
    "runners/mlx",
    "runners/coreml",
    "runners/onnx",
    "runners/sklearn",
    "runners/torch",
    "backends/bentoml",
    "tensors/packages/pillow",
    "tensors/packages/pyarrow",
    "tensors/packages/tokenizers",
)
APART = {"linux-cuda12": ("runners/torch",), "linux-cuda13": ("runners/torch",)}
"""Owners that agree with the backend alone in a set (`tools/lock_requirements.py`)."""
FILES = [MLSPEC / owner / "requirements" / f"{name}.txt" for owner in OWNERS for name in SETS]
LINE = re.compile(r"[a-z0-9][a-z0-9-]*(\[[a-z0-9,]+\])?==[0-9][a-z0-9.]*( ; [^#@]+)?")


def lines(owner: str, name: str) -> list[str]:
    return (MLSPEC / owner / "requirements" / f"{name}.txt").read_text(encoding="ascii").splitlines()


def pins(owner: str, name: str) -> dict[str, set[str]]:
    """Every version that a file may install, by package: more than one only where markers tell them apart."""
    found: dict[str, set[str]] = {}
    for line in lines(owner, name):
        requirement = Requirement(line)
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_each_line_is_one_pin_and_nothing_else(path: Path) -> None:
    text = path.read_bytes().decode("ascii")
    assert text.endswith("\n")
    assert "\r" not in text
    assert [line for line in text.splitlines() if not LINE.fullmatch(line)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_lines_are_sorted_and_unique(path: Path) -> None:
    found = path.read_text(encoding="ascii").splitlines()
    assert found == sorted(set(found), key=lambda line: (canonicalize_name(Requirement(line).name), line))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_no_host_and_no_path(path: Path) -> None:
    text = path.read_text(encoding="ascii")
    assert not any(sign in text for sign in ("://", "@", "--", "/", "#", "\\"))


def test_there_are_no_other_sets() -> None:
    assert sorted(MLSPEC.rglob("requirements/*.txt")) == sorted(FILES)


@pytest.mark.parametrize("name", SETS)
def test_owners_of_a_set_agree(name: str) -> None:
    apart = APART.get(name, ())
    assert_agreed([owner for owner in OWNERS if owner not in apart], name)
    for owner in apart:
        assert_agreed([owner, "backends/bentoml"], name)


def assert_agreed(owners: list[str], name: str) -> None:
    together: dict[str, set[str]] = {}
    for owner in owners:
        for package, versions in pins(owner, name).items():
            assert together.setdefault(package, versions) == versions, (owner, package)


BACKEND = ("bentoml", "fastapi", "fastapi-swagger", "opentelemetry-exporter-otlp-proto-http", "pydantic")


@pytest.mark.parametrize("package", [*BACKEND, "prometheus-client", "uvicorn"])
@pytest.mark.parametrize("name", SETS)
def test_the_backend_brings_what_the_runtime_imports(name: str, package: str) -> None:
    assert package in pins("backends/bentoml", name)


@pytest.mark.parametrize(
    ("name", "front", "library"),
    [
        ("macos", "mlx==0.32.4", "mlx-metal==0.32.4"),
        ("linux-cpu", "mlx[cpu]==0.32.4", "mlx-cpu==0.32.4"),
        ("linux-cuda12", "mlx[cuda12]==0.32.4", "mlx-cuda-12==0.32.4"),
        ("linux-cuda13", "mlx[cuda13]==0.32.4", "mlx-cuda-13==0.32.4"),
    ],
)
def test_mlx_comes_with_the_library_of_its_platform(name: str, front: str, library: str) -> None:
    found = lines("runners/mlx_lm", name)
    assert front in found
    assert library in found
    assert "mlx-lm==0.32.2" in found


@pytest.mark.parametrize("name", ["macos", "linux-cpu"])
def test_no_cuda_where_there_is_no_nvidia_gpu_and_torch_for_its_own_runner_alone(name: str) -> None:
    packages = {package for owner in OWNERS for package in pins(owner, name)}
    # nvidia-ml-py is a few Python files that BentoML asks for everywhere.
    assert {p for p in packages if p.startswith(("nvidia", "cuda", "triton", "mlx-cuda"))} == {"nvidia-ml-py"}
    assert [owner for owner in OWNERS if "torch" in pins(owner, name)] == ["runners/torch"]
    assert [p for p in pins("runners/torch", "linux-cuda13") if p.startswith("nvidia")]


@pytest.mark.parametrize("name", SETS)
def test_the_python_runner_wants_numpy_alone(name: str) -> None:
    assert set(pins("runners/python", name)) == {"numpy"}
