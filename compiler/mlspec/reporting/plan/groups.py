"""The decisions of a plan in the order that a person asks for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from mlspec.model.machine import Machine
from mlspec.model.plan import Decision, Plan
from mlspec.reporting.plan.values import band, memory
from mlspec.reporting.words import on_one_line

Origin = Literal["set", "auto", "estimate"]
_ESTIMATES = "speed."
_FOOTPRINT = "memory.footprint_bytes"
_FIRST = ("model", "service", "memory", "speed", "runtime", "torch", "environment", "heat")
_LAST = ("serving", "target")
_COOLED = {
    "passive": "no fan",
    "laptop": "laptop with fans",
    "desktop": "desktop with fans",
    "virtual": "virtual machine",
}


def origin(decision: Decision) -> Origin:
    """Who says so: the spec, mlspec, or an estimate."""
    if decision.key.startswith(_ESTIMATES):
        return "estimate"
    return "set" if decision.given else "auto"


def counts_all(plan: Plan) -> bool:
    """Whether its memory is all that the service needs: then the runner has decided a footprint. Else it is the least
    of it, as of a class of which only the files are known.
    """
    return plan.memory is not None and any(decision.key == _FOOTPRINT for decision in plan.decisions)


def with_estimates(plan: Plan) -> tuple[Decision, ...]:
    """The decisions and, in their form, the estimates of speed, which have reasons as well."""
    speed = plan.speed
    if speed is None:
        return plan.decisions
    rates = {"decode": speed.decode_tokens_per_s, "prefill": speed.prefill_tokens_per_s}
    estimates = (
        Decision(f"{_ESTIMATES}{name}_tokens_per_s", band(rate), speed.rule, speed.inputs)
        for name, rate in rates.items()
        if rate is not None
    )
    return (*plan.decisions, *estimates)


def grouped(decisions: Iterable[Decision]) -> list[tuple[str, list[Decision]]]:
    """The decisions by the first part of their keys: what the model does before how it is served."""
    groups: dict[str, list[Decision]] = {}
    for decision in decisions:
        groups.setdefault(decision.key.partition(".")[0], []).append(decision)
    return sorted(groups.items(), key=lambda group: _rank(group[0]))


def described(machine: Machine) -> list[str]:
    """What a plan takes from a machine, each in a few words: GPU, bandwidth, macOS, working set, cooling."""
    chip = machine.chip
    found = [
        f"{chip.gpu_cores} GPU cores" if chip else "",
        f"{chip.bandwidth_gb_s:g} GB/s" if chip else "",
        f"{machine.cpus} CPU cores" if machine.cpus and not chip else "",
        f"macOS {machine.macos}" if machine.macos else "",
        f"working set {memory(machine.working_set_bytes)}" if machine.working_set_bytes else "",
        f"GPU memory {memory(machine.gpu_memory_bytes)}" if machine.gpu_memory_bytes else "",
        f"{memory(machine.reserved_bytes)} kept for other programs" if machine.reserved_bytes else "",
        _COOLED.get(machine.cooling, ""),
    ]
    return [on_one_line(words) for words in found if words]


def _rank(name: str) -> tuple[int, str]:
    if name in _FIRST:
        return _FIRST.index(name), ""
    return (len(_FIRST) + 1 + _LAST.index(name), "") if name in _LAST else (len(_FIRST), name)
