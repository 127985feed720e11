"""The page of a record: one self-contained file of HTML, without a script and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from mlspec import __version__
from mlspec.bench.advice import advice
from mlspec.bench.changes import Change, changes, differences
from mlspec.bench.drawing import plots
from mlspec.bench.formats import change, moment
from mlspec.bench.record import Record
from mlspec.bench.text import asked_words, columns, decoded_alone
from mlspec.rendering.environment import environment
from mlspec.rendering.filters import Safe
from mlspec.reporting.plan.html import html
from mlspec.reporting.plan.values import band, memory, rate
from mlspec.resources import folder

TEMPLATE = "report/bench.html.j2"
_STYLES = ("report/plan.css", "report/bench.css")
"""A page of measurements looks like that of a plan."""


@dataclass(frozen=True)
class Estimate:
    """A planned speed's band and what was measured, in percent of the picture's width."""

    planned: str
    measured: str
    low: str
    width: str
    expected: str
    mark: str


@dataclass(frozen=True)
class Held:
    """Memory in words, and in percent of what is allowed, or of what is planned where nothing tells that."""

    peak: str
    planned: str
    allowed: str
    share: str
    planned_share: str


def as_page(record: Record, before: Record | None = None) -> str:
    """The page of what was measured, with an earlier record's figures behind it if there is one."""
    style = "".join((folder("templates") / name).read_text(encoding="utf-8") for name in _STYLES)
    made = environment(folder("templates"))
    made.filters["html"] = html
    subject = record.subject
    shown = columns(record.levels)
    return made.get_template(TEMPLATE).render(
        style=Safe(style),
        policy=_policy(style),
        version=__version__,
        subject=subject,
        place=subject.machine or subject.url or "",
        asked=asked_words(record),
        measured_at=moment(record.measured_at),
        advice=advice(record),
        plots=plots(record, before),
        names=[name for name, _ in shown],
        rows=[[cell(level) for _, cell in shown] for level in record.levels],
        interrupted=any(level.interrupted for level in record.levels),
        estimate=_estimate(record),
        held=_held(record),
        before=moment(before.measured_at) if before else None,
        changes=[_words(one) for one in changes(record, before)] if before else [],
        differences=differences(record, before) if before else [],
    )


def _policy(style: str) -> str:
    """Nothing is loaded and nothing runs; of styles only the page's own, by its digest."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _estimate(record: Record) -> Estimate | None:
    planned, measured = record.subject.decode_tokens_per_s, decoded_alone(record)
    if planned is None:
        return None
    widest = max(planned[2], measured or 0.0)
    low, expected, high = (value * 96 / widest for value in planned)
    return Estimate(
        planned=band(planned),
        measured="" if measured is None else rate(measured),
        low=f"{low:.1f}",
        width=f"{high - low:.1f}",
        expected=f"{expected:.1f}",
        mark="" if measured is None else f"{measured * 96 / widest:.1f}",
    )


def _held(record: Record) -> Held | None:
    subject = record.subject
    peak = max((level.service.peak_memory_bytes or 0 for level in record.levels), default=0)
    if not peak:
        return None
    planned, allowed = subject.footprint_bytes or 0, subject.budget_bytes or 0
    whole = max(peak, planned, allowed)
    return Held(
        peak=memory(peak),
        planned=memory(planned) if planned else "",
        allowed=memory(allowed) if allowed else "",
        share=f"{peak * 1000 / whole:.1f}",
        planned_share=f"{planned * 1000 / whole:.1f}",
    )


def _words(one: Change) -> list[str]:
    ratios = (one.throughput, one.first_token, one.per_token, one.latency)
    return [str(one.concurrency), *("" if ratio is None else change(ratio) for ratio in ratios)]
