"""A plan as JSON: stable keys, sizes in bytes, what was found beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from mlspec.diagnostics import Report
from mlspec.model.machine import Machine
from mlspec.model.plan import MemoryPlan, Plan
from mlspec.reporting.records import as_json as report_as_json

VERSION = 1


def document(spec: str, plans: Iterable[Plan], report: Report) -> dict[str, Any]:
    """What `mlspec plan --output-format json` prints; see schema/plan-report.schema.json."""
    return {
        "version": VERSION,
        "spec": spec,
        "targets": [_target(plan) for plan in plans],
        "findings": findings(report),
    }


def findings(report: Report) -> list[dict[str, Any]]:
    """Errors and warnings, as every command's JSON has them."""
    found: list[dict[str, Any]] = json.loads(report_as_json(report))
    return found


def memory_record(plan: MemoryPlan | None) -> dict[str, Any] | None:
    if plan is None:
        return None
    spare = None if plan.budget_bytes is None else plan.budget_bytes - plan.footprint_bytes
    return {**asdict(plan), "footprint_bytes": plan.footprint_bytes, "spare_bytes": spare}


def machine_record(machine: Machine | None) -> dict[str, Any] | None:
    return {"title": machine.title, **asdict(machine)} if machine else None


def _target(plan: Plan) -> dict[str, Any]:
    target = plan.target
    return {
        **{key: getattr(target, key) for key in ("name", "platform", "accelerator", "arch", "python")},
        "machine": machine_record(target.machine),
        "memory": memory_record(plan.memory),
        "speed": asdict(plan.speed) if plan.speed else None,
        "decisions": [asdict(decision) for decision in plan.decisions],
    }


def dumped(data: Any) -> str:
    """Indented JSON; what the stream can't write is escaped."""
    return json.dumps(data, indent=2) + "\n"
