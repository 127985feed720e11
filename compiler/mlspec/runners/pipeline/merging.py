"""One plan of the plans of a pipeline's stages: what each decided, under names that tell the stages apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlspec.model.plan import Decision, Derivation, MemoryPart
from mlspec.requirements import pins
from mlspec.runners import Faults
from mlspec.runners.pipeline.chain import Chain, Planned
from mlspec.runners.pipeline.stages import Opened
from mlspec.tensors.plan import TensorModelPlan
from mlspec.tensors.steps import step_packages


def merged(chain: Chain, stages: Sequence[Planned], faults: Faults) -> TensorModelPlan | None:
    """The pipeline's own plan; None after a fault was reported."""
    environment = _environment(stages, faults)
    if environment is None:
        return None
    return TensorModelPlan(
        {
            "stages": [_settings(stage, takes) for stage, takes in zip(stages, chain.takes, strict=True)],
            "gives": chain.gives,
        },
        chain.inputs,
        chain.outputs,
        batches=all(stage.own.batches for stage in stages),
        rows_apart=chain.rows_apart,
        decisions=tuple(decision for stage in stages for decision in _decisions(stage)),
        environment=environment,
        system_packages=tuple(sorted({name for stage in stages for name in stage.own.system_packages})),
        memory=tuple(part for stage in stages for part in _memory(stage)),
        budget_bytes=min((s.own.budget_bytes for s in stages if s.own.budget_bytes is not None), default=None),
        derivations=tuple(derivation for stage in stages for derivation in _derivations(stage)),
        packages=tuple(sorted({package for stage in stages for package in _packages(stage)})),
    )


def _settings(stage: Planned, takes: Mapping[str, str]) -> dict[str, Any]:
    """A stage as the bundle's runtime reads it (`runtime.py` beside this file)."""
    own, asked, opened = stage.own, stage.asked, stage.opened
    return {
        "name": opened.name,
        "module": f"mlspec_runtime.runners.{opened.runner.package}.runtime",
        "settings": dict(own.settings),
        "inputs": [tensor.settings() for tensor in own.inputs],
        "outputs": [tensor.settings() for tensor in own.outputs],
        "pre": [dict(step) for step in asked.pre],
        "post": [dict(step) for step in asked.post],
        "takes": dict(takes),
        "gives": [tensor.name for tensor in asked.outputs],
    }


def _decisions(stage: Planned) -> Iterator[Decision]:
    keys = {decision.key for decision in stage.own.decisions}
    for decision in stage.own.decisions:
        inputs = tuple(_input(text, stage.opened, keys) for text in decision.inputs)
        yield replace(decision, key=_key(decision.key, stage.opened), inputs=inputs)


def _key(key: str, opened: Opened) -> str:
    return f"{opened.name}.{key}"


def _input(text: str, opened: Opened, keys: Iterable[str]) -> str:
    """What a decision came from, in the whole spec and the whole plan."""
    kind, _, rest = text.partition(":")
    if kind == "spec" and rest.startswith("/model"):
        return f"spec:/model/stages/{opened.index}{rest}"
    if kind == "facts":
        return f"facts:{opened.name}/{rest}"
    return f"plan:{_key(rest, opened)}" if kind == "plan" and rest in keys else text


def _memory(stage: Planned) -> Iterator[MemoryPart]:
    for part in stage.own.memory:
        yield replace(part, name=f"{stage.opened.name}: {part.name}")


def _derivations(stage: Planned) -> Iterator[Derivation]:
    for derivation in stage.own.derivations:
        settings = {"runner": stage.opened.runner.name, "of_stage": dict(derivation.settings)}
        yield replace(derivation, role=f"{stage.opened.name}/{derivation.role}", settings=settings)


def _packages(stage: Planned) -> tuple[str, ...]:
    return (*stage.own.packages, *step_packages(stage.opened.block))


def _environment(stages: Sequence[Planned], faults: Faults) -> dict[str, str] | None:
    """The variables of all stages: one process has one value of each."""
    environment: dict[str, str] = {}
    for stage in stages:
        for name, value in stage.own.environment.items():
            if environment.setdefault(name, value) != value:
                message = f"this stage sets {name} to {value}, an earlier one to {environment[name]}"
                help = f"set it for all in service.env: {{name: {name}, value: …}}"
                faults.error("bad-stage", message, (*stage.opened.place, "model"), help=help)
                return None
    return environment


def agree(wanted: Sequence[tuple[Opened, Sequence[str]]], faults: Faults) -> bool:
    """Whether the stages' requirements fit into one environment; a fault is reported if not."""
    first: dict[str, tuple[str, str]] = {}
    for opened, lines in wanted:
        for name, line in pins(lines).items():
            earlier, pin = first.setdefault(name, (opened.name, line))
            if pin != line:
                message = f"two versions of {name}: the stage '{earlier}' pins {pin}, this one {line}"
                help = "one service has one version: give both stages the same"
                faults.error("requirements-conflict", message, (*opened.place, "model"), help=help)
                return False
    return True
