"""How long a context each number of requests at once has room for: the plan made again, all else as decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.diagnostics import Report
from mlspec.model.document import Document
from mlspec.model.plan import Plan
from mlspec.model.spec import Spec
from mlspec.passes.inspect import ModelFaults
from mlspec.runners import Runner

CONTEXT = "context_length"
AUTO, NONE = "auto", "none"
_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_BEYOND = 4
"""How many times the planned number of requests is still worth a look."""


@dataclass(frozen=True)
class Curve:
    """(requests at once, tokens of context that fit), the former rising, and the point that was planned."""

    points: tuple[tuple[int, int], ...]
    planned: tuple[int, int]


def curve(plan: Plan, runner: Runner, document: Document) -> Curve | None:
    """None where the runner plans no context, or nothing bounds it."""
    values = {decision.key: decision.value for decision in plan.decisions}
    concurrency, context = values.get("service.concurrency"), values.get(f"model.{CONTEXT}")
    bounded = plan.memory is not None and plan.memory.budget_bytes is not None
    if not bounded or not isinstance(concurrency, int) or not isinstance(context, int):
        return None
    counts = sorted({*(count for count in _COUNTS if count <= max(8, _BEYOND * concurrency)), concurrency})
    points = []
    for count in counts:
        longest = _longest(_fixed(plan, values, runner, count), plan, runner, document)
        if longest is None:
            break
        points.append((count, longest))
    return Curve(tuple(points), (concurrency, context)) if len(points) > 1 else None


def _fixed(plan: Plan, values: Mapping[str, Any], runner: Runner, concurrency: int) -> Spec:
    """The spec with so many requests at once, what was decided of its model set, and any context."""
    spec = plan.spec
    decided = {key.rpartition(".")[2]: value for key, value in values.items()}
    if not any(made.work == "quantize" for made in plan.derivations):
        decided["quantization"] = NONE  # a model that came quantized can't be quantized again
    given = {name: decided.get(name, AUTO) if value == AUTO else value for name, value in dict(spec.model).items()}
    model = runner.model_type.model_validate({**given, CONTEXT: AUTO})
    service = spec.service.model_copy(update={"concurrency": concurrency})
    return spec.model_copy(update={"model": model, "service": service})


def _longest(spec: Spec, plan: Plan, runner: Runner, document: Document) -> int | None:
    decided = runner.plan(spec, plan.resolved.facts, plan.target, ModelFaults(document, Report()))
    found = [one.value for one in decided.decisions if one.key == f"model.{CONTEXT}"] if decided else []
    return found[0] if found else None
