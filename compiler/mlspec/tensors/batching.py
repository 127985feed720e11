"""How many requests are taken on at once, and how many of their rows are computed together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlspec.model.plan import Decision
from mlspec.model.signature import Tensor
from mlspec.model.spec import Spec

if TYPE_CHECKING:
    from mlspec.tensors.plan import TensorModelPlan

USUAL_CONCURRENCY = 32
USUAL_ROWS = 32
PAYS_FROM = 8
"""Requests at once, below which computing them together was measured to gain nothing."""


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
    if not batches:
        return Decision(key, 1, "the model is asked one request at a time", inputs)
    return Decision(key, USUAL_CONCURRENCY, "enough to fill a batch while one is computed", inputs)


def batching(spec: Spec, own: TensorModelPlan, at_once: int) -> Rows:
    """The rows of a batch, at most, and how long a request may wait for others."""
    decision = _max_rows(spec, own, at_once)
    given = spec.service.batching
    wait_ms = 0.0 if isinstance(given, str) or decision.value == 1 else float(given.max_wait_ms)
    return Rows((decision,), {"max_rows": decision.value, "max_wait_s": wait_ms / 1000})


def _max_rows(spec: Spec, own: TensorModelPlan, at_once: int) -> Decision:
    key, inputs, given = "service.batching.max_rows", ("spec:/service/batching",), spec.service.batching
    if given == "off":
        return Decision(key, 1, "as the spec says", inputs, given=True)
    if not own.batches or not stackable((*own.inputs, *own.outputs)):
        rule = "the requests' arrays can't be stacked: not all of them begin with the batch's dimension, a name"
        return Decision(key, 1, rule, ("spec:/model/inputs", "spec:/model/outputs"))
    if not isinstance(given, str) and given.max_rows is not None:
        return Decision(key, given.max_rows, "as the spec says", inputs, given=True)
    if given == "auto" and at_once < PAYS_FROM:
        return Decision(key, 1, f"of fewer than {PAYS_FROM} requests at once it gains nothing", inputs)
    return Decision(key, USUAL_ROWS, "usual where nothing was measured", inputs)


def stackable(tensors: tuple[Tensor, ...]) -> bool:
    """Whether all begin with the same named dimension."""
    return len({tensor.shape[0] if tensor.shape else 0 for tensor in tensors}) == 1 and all(
        isinstance(tensor.shape[0], str) for tensor in tensors
    )
