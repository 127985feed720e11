"""What a table of machines amounts to: by what they were judged, and which is the smallest that serves the spec."""

from __future__ import annotations

import re

from mlspec.model.machine import Machine
from mlspec.reporting.plan.look import Look
from mlspec.reporting.plan.serving_machines import Candidate
from mlspec.reporting.plan.values import memory
from mlspec.reporting.words import on_one_line

_NOTE = "tokens/s: an estimate for one request"


def summary(candidates: list[Candidate], look: Look) -> str:
    """By what the machines were judged, and which is the smallest that serves it, with a line end."""
    fitting = [candidate for candidate in candidates if candidate.fits]
    unclear = [candidate for candidate in candidates if candidate.fits is None]
    notes = [_NOTE] if any(candidate.plan and candidate.plan.speed for candidate in candidates) else []
    told = "".join(f"{look.paint('dim', note)}\n" for note in [*notes, _working_set(candidates[0].machine)])
    if unclear:
        return f"{told}{look.paint('warning', f'no verdict: {unknown(unclear[0])}')}\n"
    if not fitting:
        return told + look.paint("bad", f"none of these {len(candidates)} machines serves it") + "\n"
    smallest = look.paint("good", on_one_line(fitting[0].title))
    return f"{told}{len(fitting)} of {len(candidates)} serve it; the smallest that does: {smallest}\n"


def unknown(candidate: Candidate) -> str:
    """What isn't known, and the part that is."""
    plan = candidate.plan
    whose = "its class" if plan and hasattr(plan.spec.model, "class_name") else "it"
    parts = plan.memory.parts if plan and plan.memory else ()
    known = "".join(f"; known are {memory(part.bytes)} of {on_one_line(part.name)}" for part in parts)
    return f"nothing is known of the memory that {whose} needs{known}"


def _working_set(machine: Machine) -> str:
    """By which rule macOS bounds what the GPU may keep resident: it is the same for all machines of a table."""
    if machine.macos is not None:
        return f"macOS {on_one_line(machine.macos)}"
    rule = re.search(r"/macos-(\d+)/", machine.origins.get("working_set_bytes", ""))
    return f"macOS not named: the working set of macOS {rule[1]} and older" if rule else "macOS not named"
