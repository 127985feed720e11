"""What templates see of a plan: `given` came from the spec as free text, `decided` is mlspec's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.model.plan import Decision, Plan
from mlspec.requirements import CPU_BUILDS, cpu_builds

NEUTRAL = "x"


def context(plan: Plan) -> dict[str, Any]:
    """The variables of all templates. Values only: a template decides nothing."""
    return {"given": _given(plan), "decided": _decided(plan), "decisions": [_row(d) for d in plan.decisions]}


def neutral(plan: Plan) -> dict[str, Any]:
    """The same variables with each string of the spec replaced."""
    seen = context(plan)
    given = {variable: _neutral(value) for variable, value in seen["given"].items()}
    return {**seen, "given": given, "decisions": [_neutral_row(row) for row in seen["decisions"]]}


def _given(plan: Plan) -> dict[str, Any]:
    metadata = plan.spec.metadata
    return {
        "name": metadata.name,
        "project": metadata.project,
        "target": plan.target.name,
        "description": " ".join(metadata.description.split()),
        "labels": sorted(metadata.labels.items()),
        "environment": sorted(plan.environment.items()),
        "required_environment": sorted(plan.required_environment),
        "example": plan.spec.tests[0].predict if plan.spec.tests else None,
        "sources": [(role, _source(source)) for role, source in _sources(plan)],
    }


def _decided(plan: Plan) -> dict[str, Any]:
    target = plan.target
    return {
        "platform": target.platform,
        "accelerator": target.accelerator,
        "arch": target.arch,
        "python": target.python,
        "runner": plan.spec.runner,
        "backend": plan.spec.service.backend,
        "task": plan.task,
        "endpoints": list(plan.runtime["endpoints"]),
        "needs_key": plan.runtime.get("auth") is not None,
        "system_packages": list(plan.system_packages),
        "cpu_builds": list(cpu_builds(plan.requirements, target.constraint_set)),
        "cpu_index": CPU_BUILDS,
        **{d.key.partition(".")[2]: d.value for d in plan.decisions if d.key.startswith("serving.")},
    }


def _sources(plan: Plan) -> list[tuple[str, Mapping[str, str]]]:
    return [(facts.ref.role, facts.ref.source.key()) for facts in plan.resolved.facts.models]


def _source(source: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in source.items())


def _row(decision: Decision) -> dict[str, Any]:
    return {"key": decision.key, "value": decision.value, "rule": decision.rule}


def _neutral_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "value": _neutral(row["value"])}


def _neutral(value: Any) -> Any:
    if isinstance(value, str):
        return NEUTRAL if value else ""
    if isinstance(value, dict):
        return {f"{NEUTRAL}{index}": _neutral(item) for index, item in enumerate(value.values())}
    if isinstance(value, list | tuple):
        return type(value)(_neutral(item) for item in value)
    return value
