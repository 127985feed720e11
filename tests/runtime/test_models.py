"""Finding models and checking them against the plan."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.models import content_sha256, header_sha256, locate
from mlspec_runtime.plan import RuntimePlan, parse_plan
from runtime.bundles import planned_model, runtime_block

HEADER = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


def make_model(folder: Path, weights: bytes = b"12345678") -> Path:
    """A folder with a configuration and a safetensors file."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(HEADER)) + HEADER + weights)
    return folder


def plan_for(folder: Path, role: str = "base", source: dict[str, str] | None = None) -> RuntimePlan:
    model = planned_model(role, folder)
    return parse_plan({"runtime": runtime_block(models=[{**model, "source": source or {"path": "m"}}])})


def nowhere(tag: str) -> Path | None:
    return None


def problem(plan: RuntimePlan, bundle: Path, environment: dict[str, str] | None = None) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        locate(plan, bundle, environment or {}, nowhere)
    assert error.value.status == 503
    return error.value


def test_the_three_places_in_their_order(tmp_path: Path) -> None:
    one = make_model(tmp_path / "env" / "adapters" / "support")
    two = make_model(tmp_path / "bundle" / "models" / "adapters" / "support")
    three = make_model(tmp_path / "store")
    plan = plan_for(one, "adapters/support", {"store": "demo:1"})
    environment = {"MLSPEC_MODELS": str(tmp_path / "env")}
    asked: list[str] = []

    def store(tag: str) -> Path:
        asked.append(tag)
        return three

    bundle = tmp_path / "bundle"
    assert locate(plan, bundle, environment, store) == {"adapters/support": one}
    assert locate(plan, bundle, {}, store) == {"adapters/support": two}
    assert locate(plan, tmp_path, {"MLSPEC_MODELS": "/nowhere"}, store) == {"adapters/support": three}
    assert asked == ["demo:1"]


def test_a_missing_model_names_all_places_and_no_folder_of_the_machine(tmp_path: Path) -> None:
    plan = plan_for(make_model(tmp_path / "m"), source={"store": "demo:1"})
    error = problem(plan, tmp_path / "bundle", {"MLSPEC_MODELS": str(tmp_path / "elsewhere")})
    assert error.code == "model_missing"
    for place in ("base in MLSPEC_MODELS", "models/base in the bundle", "demo:1 in the model store"):
        assert place in error.message
    assert str(tmp_path) not in error.message


def test_a_link_that_leads_nowhere_is_a_missing_model(tmp_path: Path) -> None:
    plan = plan_for(make_model(tmp_path / "m"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base").symlink_to(tmp_path / "gone")
    assert problem(plan, tmp_path).code == "model_missing"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: (f / "config.json").write_text("[]"), "config.json has another content"),
        (lambda f: (f / "config.json").write_text("{ }"), "config.json has 3 bytes, planned are 2"),
        (lambda f: (f / "config.json").unlink(), "config.json can't be read: No such file"),
        (lambda f: _patch(f, 20, b"x"), "model.safetensors has another header"),
        (lambda f: _patch(f, 0, struct.pack("<Q", 2**60)), "its header would have"),
        (lambda f: _patch(f, 0, struct.pack("<Q", 5000)), "it ends within its header"),
    ],
)
def test_a_changed_model_is_told(tmp_path: Path, change: Callable[[Path], object], told: str) -> None:
    folder = make_model(tmp_path / "models" / "base")
    plan = plan_for(folder)
    change(folder)
    error = problem(plan, tmp_path)
    assert error.code == "model_mismatch"
    assert told in error.message
    assert "Build again" in error.message


def _patch(folder: Path, at: int, data: bytes) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_weights_are_not_read(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "models" / "base")
    plan = plan_for(folder)
    _patch(folder, 8 + len(HEADER), b"changed!")
    assert locate(plan, tmp_path, {}, nowhere) == {"base": folder}
    huge = folder / "huge.safetensors"
    huge.write_bytes(struct.pack("<Q", len(HEADER)) + HEADER)
    os.truncate(huge, 1 << 40)
    assert header_sha256(huge) == hashlib.sha256(struct.pack("<Q", len(HEADER)) + HEADER).hexdigest()


def test_a_file_that_is_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"123")
    with pytest.raises(ValueError, match="too short"):
        header_sha256(tmp_path / "short")
    assert content_sha256(tmp_path / "short") == hashlib.sha256(b"123").hexdigest()
