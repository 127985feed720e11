"""How many requests are taken on at once, and how many of their rows are computed together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlspec.model.calibration import Calibration, Point
from mlspec.model.plan import Decision
from mlspec.model.signature import Tensor
from mlspec.model.spec import Spec

if TYPE_CHECKING:
    from mlspec.tensors.plan import TensorModelPlan

USUAL_CONCURRENCY = 32
USUAL_ROWS = 32
PAYS_FROM = 8
"""Requests at once, below which computing them together was measured to gain nothing."""
NEAR_BEST = 0.95
"""A smaller batch that is as fast as this part of the fastest one is the better one: its rows wait for fewer others."""
GAIN = 1.1
"""What batches must bring at least over single rows."""
TIME_SHARE = 0.25
"""Of the requests' deadline: a batch may take so much of it, as others wait meanwhile."""
KEY, _INPUT = "service.batching.max_rows", "spec:/service/batching"


@dataclass(frozen=True)
class Rows:
    """The decisions, and what the runtime reads of them: `{"max_rows": int, "max_wait_s": float}`."""

    decisions: tuple[Decision, ...]
    settings: Mapping[str, Any]


def concurrency(spec: Spec, batches: bool) -> Decision:
    """The requests that are taken on at once; those that the batch doesn't take wait in the runner."""
    key, inputs = "service.concurrency", ("spec:/service/concurrency",)
    if spec.service.concurrency != "auto":
        return Decision(key, spec.service.concurrency, "as the spec says", inputs, given=True)
    if not batches and isinstance(spec.service.batching, str):
        return Decision(key, 1, "the model is asked one request at a time", inputs)
    return Decision(key, USUAL_CONCURRENCY, "enough to fill a batch while one is computed", inputs)


def batching(spec: Spec, own: TensorModelPlan, at_once: int, calibration: Calibration | None = None) -> Rows:
    """The rows of a batch, at most, and how long a request may wait for others."""
    decision = _max_rows(spec, own, at_once, calibration)
    given = spec.service.batching
    wait_ms = 0.0 if isinstance(given, str) or decision.value == 1 else float(given.max_wait_ms)
    return Rows((decision,), {"max_rows": decision.value, "max_wait_s": wait_ms / 1000})


def _max_rows(spec: Spec, own: TensorModelPlan, at_once: int, calibration: Calibration | None) -> Decision:
    given = spec.service.batching
    if given == "off":
        return Decision(KEY, 1, "as the spec says", (_INPUT,), given=True)
    if not own.rows_apart:
        rule = "rows of several requests don't stay apart in the model, so each request is computed by itself"
        return Decision(KEY, 1, rule, ("spec:/model",))
    if given == "auto" and not own.batches:
        return Decision(KEY, 1, "the model is asked one request at a time, unless the spec gives max_rows", (_INPUT,))
    if own.batches and not stackable((*own.inputs, *own.outputs)):
        rule = "the requests' arrays can't be stacked: not all of them begin with the batch's dimension, a name"
        return Decision(KEY, 1, rule, ("spec:/model/inputs", "spec:/model/outputs"))
    if not isinstance(given, str) and given.max_rows is not None:
        return Decision(KEY, given.max_rows, "as the spec says", (_INPUT,), given=True)
    if calibration is not None:
        return _Measured(spec, own, calibration).decision(at_once, is_asked=given != "auto")
    if given == "auto" and at_once < PAYS_FROM:
        return Decision(KEY, 1, f"of fewer than {PAYS_FROM} requests at once it gains nothing", (_INPUT,))
    return Decision(KEY, USUAL_ROWS, "usual where nothing was measured (mlspec bench --calibrate)", (_INPUT,))


def stackable(tensors: tuple[Tensor, ...]) -> bool:
    """Whether all begin with the same named dimension."""
    return len({tensor.shape[0] if tensor.shape else 0 for tensor in tensors}) == 1 and all(
        isinstance(tensor.shape[0], str) for tensor in tensors
    )


class _Measured:
    """The decision from a measured curve."""

    def __init__(self, spec: Spec, own: TensorModelPlan, calibration: Calibration) -> None:
        self._points = calibration.points
        self._row_bytes = calibration.row_bytes
        self._calibration = calibration
        self._free_bytes = _free_bytes(own)
        self._longest_s = TIME_SHARE * spec.service.limits.timeout_s
        self._inputs = (_INPUT, f"calibration:{calibration.target}/points")

    def decision(self, at_once: int, *, is_asked: bool) -> Decision:
        """The smallest batch that is about as fast as the fastest, of those that fit."""
        one, fitting = self._points[0], [point for point in self._points if self._fits(point)]
        if not fitting:
            return self._decided(1, "no batch that was measured fits memory and time limit")
        fastest = max(fitting, key=lambda point: point.rows_per_s)
        reached = max((p for p in fitting if p.rows <= at_once), key=lambda point: point.rows_per_s, default=one)
        if not is_asked and reached.rows_per_s < GAIN * one.rows_per_s:
            return self._decided(1, f"measured: {_told(reached)}, {_told(one)}; it gains nothing")
        best = next(p for p in fitting if p.rows_per_s >= NEAR_BEST * fastest.rows_per_s)
        return self._decided(best.rows, f"measured: {_told(best)}, {_told(one)}", self._rejected(best))

    def _decided(self, rows: int, rule: str, rejected: Iterable[str] = ()) -> Decision:
        return Decision(KEY, rows, f"{rule} ({self._calibration.computer})", self._inputs, tuple(rejected))

    def _rejected(self, best: Point) -> Iterable[str]:
        for point in self._points:
            if point.rows > best.rows:
                yield f"{point.rows}: {self._misfit(point) or f'{point.rows_per_s:,.0f} rows/s, no more to speak of'}"

    def _fits(self, point: Point) -> bool:
        return not self._misfit(point)

    def _misfit(self, point: Point) -> str:
        if point.seconds > self._longest_s and point.rows > 1:
            return f"takes {point.seconds:.3g} s, more than a quarter of the time limit"
        if self._free_bytes is not None and self._row_bytes is not None:
            needed = self._row_bytes * point.rows
            if needed > self._free_bytes and point.rows > 1:
                return f"needs {needed:,} bytes beside the model, {self._free_bytes:,} are free"
        return ""


def _told(point: Point) -> str:
    return f"{point.rows_per_s:,.0f} rows/s in batches of {point.rows}"


def _free_bytes(own: TensorModelPlan) -> int | None:
    """What the machine allows beside what doesn't grow with the batch."""
    if own.budget_bytes is None:
        return None
    return max(0, own.budget_bytes - sum(part.bytes for part in own.memory))
