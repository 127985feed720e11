"""What is measured, in words and numbers of its plan."""

from __future__ import annotations

from mlspec.bench.record import Subject
from mlspec.hardware.detect import this_computer
from mlspec.hardware.errors import UnknownMachineError
from mlspec.model.machine import Machine
from mlspec.model.plan import Plan
from mlspec.pipeline import Checked
from mlspec.reporting.plan.groups import counts_all, described


def subject_of(checked: Checked, plan: Plan, url: str | None, *, is_this_target: bool) -> Subject:
    """The service that is loaded; `url` if it isn't started here. What the plan says of a machine is told only if it is
    that of the one that serves.
    """
    metadata, limits, memory = checked.spec.metadata, plan.runtime["limits"], plan.memory
    known = Subject(
        spec=checked.document.shown,
        name=metadata.name,
        project=metadata.project,
        target=plan.target.name if is_this_target else "",
        task=plan.task,
        machine=here() if url is None else _of_target(plan, is_this_target),
        url=url,
    )
    if not is_this_target:
        return known
    return Subject(
        **vars(known)
        | {
            "computed_at_once": limits["concurrency"],
            "queue": limits["queue"],
            "footprint_bytes": memory.footprint_bytes if memory and counts_all(plan) else None,
            "budget_bytes": memory.budget_bytes if memory else None,
            "decode_tokens_per_s": plan.speed.decode_tokens_per_s if plan.speed else None,
        }
    )


def here() -> str:
    """This computer in a few words; nothing where it can't be made out."""
    try:
        return _words(this_computer().machine)
    except UnknownMachineError:
        return ""


def _of_target(plan: Plan, is_this_target: bool) -> str:
    return _words(plan.target.machine) if is_this_target and plan.target.machine else ""


def _words(machine: Machine) -> str:
    return ", ".join([*([] if machine.chip else ["Linux"]), machine.title, *described(machine)])
