"""The rows of a batch: as the spec says, as was measured, or as is usual, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mlspec.model.calibration import Calibration, Point
from mlspec.model.plan import Decision, MemoryPart
from mlspec.model.signature import Batching, Tensor
from mlspec.model.spec import Spec
from mlspec.tensors.batching import batching, concurrency
from mlspec.tensors.plan import TensorModelPlan

IN, OUT = Tensor(name="x", shape=("batch", 4)), Tensor(name="y", shape=("batch",))


def spec(**service: Any) -> Spec:
    return Spec.model_validate(
        {
            "metadata": {"name": "one", "project": "tests"},
            "runner": "some",
            "model": None,
            "service": service,
            "targets": [{"name": "here", "platform": "linux"}],
        }
    )


def own(**changes: Any) -> TensorModelPlan:
    return TensorModelPlan(**{"settings": {}, "inputs": (IN,), "outputs": (OUT,), **changes})


def measured(*points: tuple[int, float], memory: Sequence[int | None] = ()) -> Calibration:
    sizes = memory or [None] * len(points)
    found = tuple(Point(*point, size) for point, size in zip(points, sizes, strict=True))
    return Calibration("here", "linux", "cpu", "", "Linux, 16 GB", "0" * 64, found)


def decided(
    service: dict[str, Any], plan: TensorModelPlan, calibration: Calibration | None = None
) -> tuple[Decision, Decision]:
    one = spec(**service)
    at_once = concurrency(one, plan.batches)
    return at_once, batching(one, plan, at_once.value, calibration).decisions[0]


@pytest.mark.parametrize(
    ("service", "changes", "at_once", "rows", "rule"),
    [
        ({}, {}, 32, 32, "usual where nothing was measured"),
        ({"batching": "off"}, {}, 32, 1, "as the spec says"),
        ({"concurrency": 7}, {}, 7, 1, "of fewer than 8"),
        ({"concurrency": 8}, {}, 8, 32, "usual"),
        ({"concurrency": 2, "batching": Batching(max_wait_ms=3)}, {}, 2, 32, "usual"),
        ({"batching": Batching(max_rows=5)}, {}, 32, 5, "as the spec says"),
        ({}, {"outputs": (Tensor(name="y", shape=(1,)),)}, 32, 1, "can't be stacked"),
        ({}, {"batches": False}, 1, 1, "one request at a time"),
        (
            {"batching": Batching(max_rows=5)},
            {"batches": False, "outputs": (Tensor(name="y", shape=()),)},
            32,
            5,
            "spec",
        ),
    ],
)
def test_without_measurements(
    service: dict[str, Any], changes: dict[str, Any], at_once: int, rows: int, rule: str
) -> None:
    concurrent, decision = decided(service, own(**changes))
    assert (concurrent.value, decision.value) == (at_once, rows)
    assert rule in decision.rule
    assert decision.given == (decision.rule == "as the spec says")


GROWING = ((1, 0.010), (2, 0.011), (4, 0.012), (8, 0.014), (16, 0.018), (32, 0.0345), (64, 0.068))


def test_the_smallest_that_is_about_as_fast_as_the_fastest() -> None:
    _, decision = decided({}, own(), measured(*GROWING))
    assert decision.value == 32
    assert decision.rule == "measured: 928 rows/s in batches of 32, 100 rows/s in batches of 1 (Linux, 16 GB)"
    assert decision.inputs == ("spec:/service/batching", "calibration:here/points")
    assert decision.rejected == ("64: 941 rows/s, no more to speak of",)


def test_few_at_once_have_batches_if_they_were_measured_to_pay() -> None:
    assert decided({"concurrency": 4}, own(), measured(*GROWING))[1].value == 32
    assert decided({"concurrency": 1}, own(), measured(*GROWING))[1].value == 1


def test_batches_that_bring_nothing_are_off() -> None:
    _, decision = decided({}, own(), measured((1, 0.010), (8, 0.079), (32, 0.31)))
    assert decision.value == 1
    assert "it gains nothing" in decision.rule
    assert decided({"batching": Batching(max_wait_ms=1)}, own(), measured((1, 0.010), (8, 0.077)))[1].value == 1
    assert decided({"batching": Batching(max_wait_ms=1)}, own(), measured((1, 0.010), (8, 0.074)))[1].value == 8


def test_a_batch_takes_a_quarter_of_the_time_limit() -> None:
    slow = measured((1, 1.0), (8, 2.0), (32, 6.0))
    _, decision = decided({"limits": {"timeout_s": 20}}, own(), slow)
    assert decision.value == 8
    assert decision.rejected == ("32: takes 6 s, more than a quarter of the time limit",)


def test_a_batch_fits_into_the_memory_that_is_left() -> None:
    sizes = [100 + 10 * rows for rows, _ in GROWING]
    plan = own(memory=(MemoryPart("weights", 1000, "read"),), budget_bytes=1165)
    _, decision = decided({}, plan, measured(*GROWING, memory=sizes))
    assert decision.value == 16
    assert decision.rejected[0] == "32: needs 320 bytes beside the model, 165 are free"


def test_rows_of_which_nothing_is_seen_take_no_memory() -> None:
    assert measured((1, 0.1), (2, 0.1), memory=[500, 500]).row_bytes == 0
    assert measured((1, 0.1), (2, 0.1), memory=[500, 400]).row_bytes == 0
    assert measured((1, 0.1), (2, 0.1)).row_bytes is None
    assert measured((1, 0.1), (4, 0.1), memory=[500, 600]).row_bytes == 34


def test_a_wait_is_of_batches_alone() -> None:
    waiting = spec(batching=Batching(max_wait_ms=3))
    assert batching(waiting, own(), 32).settings == {"max_rows": 32, "max_wait_s": 0.003}
    assert batching(spec(batching=Batching(max_rows=1, max_wait_ms=3)), own(), 32).settings["max_wait_s"] == 0
