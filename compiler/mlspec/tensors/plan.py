"""The plan of a model of tensors: its runner's own part, and what is the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from mlspec.model.calibration import Calibration
from mlspec.model.facts import Facts
from mlspec.model.plan import Decision, Derivation, MemoryPart, MemoryPlan, RunnerPlan
from mlspec.model.signature import Tensor
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.runners import Faults
from mlspec.tensors.batching import batching, concurrency
from mlspec.tensors.declared import are_sound
from mlspec.tensors.embedding import makes_vectors
from mlspec.tensors.requirements import package_lines, request_packages
from mlspec.tensors.steps import Stepped, service_steps, step_packages, stepped


@dataclass(frozen=True)
class TensorModelPlan:
    """What a runner of tensors decides itself.

    `settings` is what its runtime's `create_model` reads; `inputs` and `outputs` are the model's, as declared or as its
    file says; `batches` is whether several requests may be computed together without the spec's asking for it; `memory`
    holds the parts of the footprint that don't grow with the batch, empty where nothing is known; `budget_bytes` what
    the machine allows; `packages` are those of `tensors/packages` that the model itself needs; `rows_apart` False means
    that requests must never be computed together, whatever their shapes.
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
    packages: tuple[str, ...] = ()
    rows_apart: bool = True


@runtime_checkable
class TensorModelPlanner(Protocol):
    """A runner whose model can stand alone, and in a pipeline."""

    def plan_model(
        self, model: Any, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        """Decide all that the runner decides of one model; None after a fault was reported. `given` are the variables
        of the spec's own, None those that are set where the service starts.
        """


def planned(planner: TensorModelPlanner, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
    """The plan of a spec whose model is one of tensors: what `Runner.plan` answers with."""
    given = {entry.name: entry.value for entry in spec.service.env}
    own = planner.plan_model(spec.model, facts, target, given, faults)
    asked = None if own is None else _asked(spec, own, facts, faults)
    if own is None or asked is None or not _are_sound(spec, own, faults):
        return None
    if not makes_vectors(spec, asked.inputs, asked.outputs, faults):
        return None
    lines = package_lines(_packages(spec, own, asked), target)
    return replace(tensor_plan(spec, own, asked, measured(facts, target)), requirements=lines)


def _are_sound(spec: Spec, own: TensorModelPlan, faults: Faults) -> bool:
    """What the model declares, and what the service declares of requests and answers, where the steps change it."""
    of_model = are_sound(own.inputs, own.outputs, faults)
    return are_sound(spec.service.inputs or (), spec.service.outputs or (), faults.of_service()) and of_model


def _packages(spec: Spec, own: TensorModelPlan, asked: Stepped) -> set[str]:
    """What reads the requests, and what the steps import."""
    return {*own.packages, *request_packages(asked.inputs), *step_packages(service_steps(spec.service))}


def _asked(spec: Spec, own: TensorModelPlan, facts: Facts, faults: Faults) -> Stepped | None:
    """What requests and answers hold, with the steps of the service; None after a fault was reported."""
    files = {model.ref.role: frozenset(file.path for file in model.files) for model in facts.models}
    return stepped(service_steps(spec.service), own.inputs, own.outputs, files, faults.of_service())


def measured(facts: Facts, target: Target) -> Calibration | None:
    """What was measured for the target as it is; None if nothing was."""
    return next((one for one in facts.calibrations if one.is_of(target)), None)


def tensor_plan(spec: Spec, own: TensorModelPlan, asked: Stepped, calibration: Calibration | None = None) -> RunnerPlan:
    """A runner's own part, and the rest of the plan around it."""
    at_once = concurrency(spec, own.batches and own.rows_apart)
    rows = batching(spec, own, at_once.value, calibration)
    requests = {"inputs": asked.inputs, "outputs": asked.outputs}
    settings = {
        "model": dict(own.settings),
        "inputs": [tensor.settings() for tensor in own.inputs],
        "outputs": [tensor.settings() for tensor in own.outputs],
        "requests": {key: [tensor.settings() for tensor in tensors] for key, tensors in requests.items()},
        "batching": rows.settings,
        "pre": [dict(step) for step in asked.pre],
        "post": [dict(step) for step in asked.post],
    }
    return RunnerPlan(
        (at_once, *rows.decisions, *own.decisions),
        settings,
        at_once.value,
        own.environment,
        own.system_packages,
        memory=_memory(own, rows.decisions[0].value, calibration),
        derivations=own.derivations,
    )


def _memory(own: TensorModelPlan, max_rows: int, calibration: Calibration | None) -> MemoryPlan | None:
    """The parts that don't grow, and the fullest batch where it was measured what a row takes."""
    if not own.memory:
        return None
    row_bytes = calibration.row_bytes if calibration else None
    if row_bytes is None:
        return MemoryPlan(own.memory, own.budget_bytes)
    rule = f"{max_rows} rows of {row_bytes:,} bytes, as measured"
    return MemoryPlan((*own.memory, MemoryPart("batch", max_rows * row_bytes, rule)), own.budget_bytes)
