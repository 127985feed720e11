"""The page of a plan: one self-contained file of HTML, without a script and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from mlspec import __version__
from mlspec.diagnostics import Diagnostic, Report
from mlspec.model.plan import Decision, MemoryPlan, Plan, Speed
from mlspec.pipeline import Checked
from mlspec.rendering.environment import environment
from mlspec.rendering.filters import Safe
from mlspec.reporting.plan.curve import curve
from mlspec.reporting.plan.drawing import chart, segments, whisker
from mlspec.reporting.plan.groups import counts_all, described, grouped, origin, with_estimates
from mlspec.reporting.plan.html import html
from mlspec.reporting.plan.page_parts import Memory, Part, Rate, Target, Value
from mlspec.reporting.plan.serving_machines import decided, weights
from mlspec.reporting.plan.sources import Sources
from mlspec.reporting.plan.values import band, in_words, memory, rate, shown
from mlspec.reporting.words import remedy
from mlspec.resources import folder

TEMPLATE = "report/plan.html.j2"
_STYLE = "report/plan.css"


def as_page(checked: Checked, plans: Sequence[Plan], report: Report) -> str:
    """The page of a spec's plans with what was found beside them."""
    style = (folder("templates") / _STYLE).read_text(encoding="utf-8")
    made = environment(folder("templates"))
    made.filters["html"] = html
    metadata = checked.spec.metadata
    return made.get_template(TEMPLATE).render(
        style=Safe(style),
        policy=_policy(style),
        name=metadata.name,
        project=metadata.project,
        description=metadata.description,
        spec=checked.document.shown,
        version=__version__,
        targets=[_target(plan, checked) for plan in plans],
        refused=[target.name for target in checked.spec.targets if target.name not in {p.target.name for p in plans}],
        findings=[_finding(found) for found in report],
    )


def _policy(style: str) -> str:
    """Nothing is loaded and nothing runs; of styles only the page's own, by its digest."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _target(plan: Plan, checked: Checked) -> Target:
    target, machine = plan.target, plan.target.machine
    place = f"{target.platform} {target.arch}, {target.accelerator}"
    bounds = curve(plan, checked.runner, checked.document)
    sources = Sources(plan, checked.document)
    return Target(
        name=target.name,
        machine=machine.title if machine else place,
        described=(place, *described(machine)) if machine else ("no machine is named",),
        weights=weights(plan),
        concurrency=_of(plan, "service.concurrency"),
        context=_of(plan, "model.context_length"),
        decode=band(plan.speed.decode_tokens_per_s) if plan.speed else "",
        memory=_memory(plan.memory, counts_all(plan)) if plan.memory else None,
        rates=_rates(plan.speed),
        speed_rule=plan.speed.rule if plan.speed else "",
        chart=chart(bounds) if bounds else None,
        groups=tuple(
            (name, tuple(_value(one, sources) for one in group)) for name, group in grouped(with_estimates(plan))
        ),
    )


def _of(plan: Plan, key: str) -> str:
    value = decided(plan, key)
    return "" if value is None else shown(key, value)


def _memory(plan: MemoryPlan, is_all: bool) -> Memory:
    whole = max(plan.footprint_bytes, plan.budget_bytes or 0, 1)
    parts = tuple(
        Part(part.name, memory(part.bytes), f"{part.bytes / whole:.1%}", part.rule, index % 6)
        for index, part in enumerate(plan.parts)
        if part.bytes
    )
    spare = "" if plan.budget_bytes is None or not is_all else memory(plan.budget_bytes - plan.footprint_bytes)
    titles = [f"{part.name}: {memory(part.bytes)}" for part in plan.parts]
    budget = "" if plan.budget_bytes is None else memory(plan.budget_bytes)
    total = memory(plan.footprint_bytes)
    return Memory(total if is_all else f"at least {total}", budget, spare, segments(plan, titles), parts)


def _rates(speed: Speed | None) -> tuple[Rate, ...]:
    if speed is None:
        return ()
    named = (("generates", speed.decode_tokens_per_s), ("reads a prompt", speed.prefill_tokens_per_s))
    return tuple(_rate(name, given) for name, given in named if given is not None)


def _rate(name: str, given: tuple[float, float, float]) -> Rate:
    low, expected, high = (rate(value) for value in given)
    return Rate(name, expected, f"{low} to {high}", whisker(given))


def _value(decision: Decision, sources: Sources) -> Value:
    return Value(
        key=decision.key,
        name=decision.key.partition(".")[2] or decision.key,
        value=in_words(decision.key, decision.value),
        origin=origin(decision),
        rule=decision.rule,
        sources=sources.of(decision, deep=False),
        rejected=decision.rejected,
    )


def _finding(found: Diagnostic) -> dict[str, Any]:
    span = found.span
    return {
        "severity": found.severity,
        "code": found.code,
        "message": found.message,
        "place": f"{span.file}:{span.line}:{span.column}",
        "help": remedy(found),
    }
