"""What a service with torch is set up with: the values by machine, and that torch can start with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec.hardware.machines import mac, products
from mlspec.hardware.mps import HIGH, LOW, Wanted, devices, torch_plan
from mlspec.model.machine import Machine
from mlspec.model.plan import Decision
from mlspec.model.spec import Accelerator, MachineSpec
from mlspec.model.target import Target
from projects import built, example, with_spec

TORCH_LOW = 1.4
"""What torch takes where the low mark isn't set."""

TORCH_MOST = 2.0


def target(accelerator: Accelerator, machine: Machine | None = None) -> Target:
    platform, arch = ("macos", "arm64") if accelerator == "metal" else ("linux", "amd64")
    return Target("t", platform, accelerator, arch, "3.11", machine)  # type: ignore[arg-type]


def a_mac(chip: str, memory_gb: float = 64, **more: Any) -> Machine:
    return mac(
        MachineSpec(chip=chip, memory_gb=memory_gb, **{"macos": "26.2", **more}), "/targets/0/machine", None
    ).machine


def decided(on: Target, given: Mapping[str, str | None] | None = None) -> dict[str, Decision]:
    return {decision.key: decision for decision in torch_plan(on, given or {})[0]}


def starts(environment: Mapping[str, str]) -> bool:
    """What torch checks of the marks as its allocator is made (aten/src/ATen/mps/MPSAllocator.mm)."""
    high = float(environment.get(HIGH, "1.7"))
    low = float(environment.get(LOW, str(TORCH_LOW)))
    return 0 <= high <= TORCH_MOST and 0 <= low <= (high or TORCH_MOST)


@pytest.mark.parametrize(
    ("chip", "macos", "dtype"),
    [
        ("Apple M1", "26.2", "float16"),
        ("Apple M2 Ultra", "26.2", "float16"),
        ("Apple M3", "26.2", "bfloat16"),
        ("Apple M3 Pro", "13.7", "float16"),
        ("Apple M5 Max", "26.2", "bfloat16"),
    ],
)
def test_the_dtype_is_what_the_gpu_computes_in(chip: str, macos: str, dtype: str) -> None:
    found = decided(target("metal", a_mac(chip, 16 if chip == "Apple M1" else 64, macos=macos)))["torch.dtype"]
    assert found.value == dtype
    assert found.rule
    assert any(other.startswith("float32: ") for other in found.rejected)
    assert any(other.startswith("bfloat16: " if dtype == "float16" else "float16: ") for other in found.rejected)


@pytest.mark.parametrize("product", products(), ids=lambda product: product.title)
def test_torch_starts_on_every_mac_with_less_than_the_working_set(product: Any) -> None:
    _, environment = torch_plan(target("metal", product.machine), {})
    assert starts(environment)
    assert 0.8 < float(environment[HIGH]) < 1
    assert 0 < float(environment[LOW]) < float(environment[HIGH])


def test_the_high_mark_alone_would_stop_torch() -> None:
    _, environment = torch_plan(target("metal", a_mac("Apple M2 Max")), {})
    assert not starts({HIGH: environment[HIGH]})


def test_what_the_spec_reserves_lowers_the_marks() -> None:
    usual = decided(target("metal", a_mac("Apple M2 Max")))["torch.mps_high_watermark"]
    less = decided(target("metal", a_mac("Apple M2 Max", reserve_gb=24)))["torch.mps_high_watermark"]
    assert less.value < usual.value - 0.3
    assert "24.0 GiB that the spec reserves" in less.rule
    assert "spec:/targets/0/machine/reserve_gb" in less.inputs


def test_a_reserve_of_everything_is_not_read_as_no_limit() -> None:
    _, environment = torch_plan(target("metal", a_mac("Apple M2 Max", reserve_gb=64)), {})
    assert float(environment[HIGH]) > 0
    assert starts(environment)


@given(st.floats(0, 2).map(lambda ratio: f"{ratio:.3f}"), st.sampled_from([HIGH, LOW]))
def test_a_mark_of_the_specs_own_stands_and_the_other_follows(ratio: str, variable: str) -> None:
    decisions, environment = torch_plan(target("metal", a_mac("Apple M2 Max")), {variable: ratio})
    assert environment[variable] == ratio
    assert starts(environment)
    assert [decision.given for decision in decisions if decision.value == ratio] == [True]


def test_variables_that_are_set_at_the_start_are_left_alone() -> None:
    decisions, environment = torch_plan(target("metal"), {HIGH: None, "MLSPEC_TORCH_DTYPE": None})
    assert not {HIGH, LOW, "MLSPEC_TORCH_DTYPE"} & set(environment)
    assert [d.rule for d in decisions if d.given] == ["set where the service starts"] * 2


def test_a_mac_of_which_nothing_is_known() -> None:
    decisions, environment = torch_plan(target("metal"), {})
    assert environment == {
        "MLSPEC_TORCH_DEVICE": "mps",
        "MLSPEC_TORCH_DTYPE": "float16",
        HIGH: "0.95",
        LOW: "0.78",
        "PYTORCH_ENABLE_MPS_FALLBACK": "1",
    }
    assert {d.key: d.value for d in decisions}["torch.bentoml_gpus"] is None


def test_a_linux_cpu_gets_float32_and_as_many_threads_as_it_has_cpus() -> None:
    _, environment = torch_plan(target("cpu", Machine(memory_bytes=2**34, cpus=6)), {})
    assert environment == {"MLSPEC_TORCH_DEVICE": "cpu", "MLSPEC_TORCH_DTYPE": "float32", "OMP_NUM_THREADS": "6"}
    assert "OMP_NUM_THREADS" not in torch_plan(target("cpu"), {})[1]


@pytest.mark.parametrize("accelerator", ["cuda12", "cuda13"])
def test_an_nvidia_gpu_gets_bfloat16_and_nothing_of_mps(accelerator: Accelerator) -> None:
    _, environment = torch_plan(target(accelerator), {})
    assert environment == {"MLSPEC_TORCH_DEVICE": "cuda", "MLSPEC_TORCH_DTYPE": "bfloat16"}


@pytest.mark.parametrize("accelerator", ["metal", "cpu", "cuda12"])
def test_each_decision_has_its_reason(accelerator: Accelerator) -> None:
    decisions = decided(target(accelerator))
    assert "torch.workers" not in decisions, "serving.workers tells it"
    assert all(decision.rule and decision.inputs for decision in decisions.values())


def test_what_a_spec_wants_of_device_and_dtype_stands() -> None:
    on = target("metal", a_mac("Apple M2 Max"))
    decisions, environment = torch_plan(on, {}, Wanted("cpu", "bfloat16"))
    found = {decision.key: decision for decision in decisions}
    assert (found["torch.device"].value, found["torch.dtype"].value) == ("cpu", "bfloat16")
    assert all(found[key].given for key in ("torch.device", "torch.dtype"))
    assert not {HIGH, LOW} & set(environment), "nothing of MPS is used"
    assert {d.key: d.value for d in torch_plan(on, {}, Wanted(device="cpu"))[0]}["torch.dtype"] == "float32"


@pytest.mark.parametrize(
    ("accelerator", "has"), [("metal", ("mps", "cpu")), ("cpu", ("cpu",)), ("cuda12", ("cuda", "cpu"))]
)
def test_what_torch_can_compute_on(accelerator: Accelerator, has: tuple[str, ...]) -> None:
    assert devices(target(accelerator)) == has


IRIS = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: iris, project: p}
model:
  runner: python
  module: specs/models/iris/model.py
  class: Iris
  artifacts: {path: specs/models/iris/artifacts}
  requirements: [REQUIREMENT]
  inputs: [{name: flowers, dtype: float32, shape: [batch, 4]}]
  outputs: [{name: species, dtype: int64, shape: [batch]}]
service: {env: [{name: PYTORCH_ENABLE_MPS_FALLBACK, value: "0"}]}
targets: [{name: mac, platform: macos}]
"""


def plan_of(project: Path, requirement: str) -> dict[str, Any]:
    files = built(project, with_spec(project, IRIS.replace("REQUIREMENT", requirement)))
    found: dict[str, Any] = json.loads(files["p/iris/mac/plan.json"])
    return found


def test_a_class_that_pins_torch_gets_the_values_and_another_none(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    plan = plan_of(project, "torch==2.13.0")
    environment = plan["runtime"]["environment"]["set"]
    assert environment["MLSPEC_TORCH_DEVICE"] == "mps"
    assert environment["PYTORCH_ENABLE_MPS_FALLBACK"] == "0"
    assert starts(environment)
    given = {
        decision["key"] for decision in plan["decisions"] if decision["key"].startswith("torch.") and decision["given"]
    }
    assert given == {"torch.mps_fallback"}
    other = plan_of(project, "torchvision==0.28.0")
    assert not [decision["key"] for decision in other["decisions"] if decision["key"].startswith("torch.")]
    assert other["runtime"]["environment"]["set"] == {"PYTORCH_ENABLE_MPS_FALLBACK": "0"}


def test_artifacts_are_counted_as_what_the_class_needs_at_least(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    files = project / "specs/models/iris/artifacts"
    memory = plan_of(project, "torch==2.13.0")["memory"]
    size_bytes = sum(path.stat().st_size for path in files.rglob("*") if path.is_file())
    assert [(part["name"], part["bytes"]) for part in memory["parts"]] == [("artifacts", size_bytes)]
