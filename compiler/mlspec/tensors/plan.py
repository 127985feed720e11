"""The plan of a model of tensors: its runner's own part, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlspec.model.facts import Facts
from mlspec.model.plan import Decision, Derivation, MemoryPart, MemoryPlan, RunnerPlan
from mlspec.model.signature import Tensor
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.runners import Faults
from mlspec.tensors.batching import batching, concurrency


@dataclass(frozen=True)
class TensorModelPlan:
    """What a runner of tensors decides itself.

    `settings` is what its runtime's `create_model` reads; `inputs` and `outputs` are the model's, as declared or as its
    file says; `batches` is whether rows of several requests may be computed together; `memory` holds the parts of the
    footprint that don't grow with the batch, empty where nothing is known; `budget_bytes` what the machine allows.
    """

    settings: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    batches: bool = True
    decisions: tuple[Decision, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    memory: tuple[MemoryPart, ...] = ()
    budget_bytes: int | None = None
    derivations: tuple[Derivation, ...] = ()


class TensorModelPlanner(Protocol):
    """A runner whose model can stand alone, and in a pipeline."""

    def plan_model(
        self, model: Any, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        """Decide all that the runner decides of one model; None after a fault was reported. `given` are the variables
        of the spec's own, None those that are set where the service starts.
        """


def planned(
    planner: TensorModelPlanner, spec: Spec, facts: Facts, target: Target, faults: Faults
) -> RunnerPlan | None:
    """The plan of a spec whose model is one of tensors: what `Runner.plan` answers with."""
    given = {entry.name: entry.value for entry in spec.service.env}
    own = planner.plan_model(spec.model, facts, target, given, faults)
    return None if own is None else tensor_plan(spec, own, faults)


def tensor_plan(spec: Spec, own: TensorModelPlan, faults: Faults) -> RunnerPlan | None:
    """A runner's own part, and the rest of the plan around it; None after a fault was reported."""
    at_once = concurrency(spec, own.batches)
    rows = batching(spec, own, at_once.value)
    requests = {"inputs": list(own.inputs), "outputs": list(own.outputs)}
    settings = {
        "model": dict(own.settings),
        "inputs": [tensor.settings() for tensor in own.inputs],
        "outputs": [tensor.settings() for tensor in own.outputs],
        "requests": {key: [tensor.settings() for tensor in tensors] for key, tensors in requests.items()},
        "batching": rows.settings,
        "pre": [],
        "post": [],
    }
    return RunnerPlan(
        (at_once, *rows.decisions, *own.decisions),
        settings,
        at_once.value,
        own.environment,
        own.system_packages,
        memory=MemoryPlan(own.memory, own.budget_bytes) if own.memory else None,
        derivations=own.derivations,
    )
