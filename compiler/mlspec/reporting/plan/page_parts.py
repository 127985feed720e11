"""What the page's template is given: words and numbers, ready to be written."""

from __future__ import annotations

from dataclasses import dataclass

from mlspec.reporting.plan.drawing import Chart, Segment, Whisker
from mlspec.reporting.plan.groups import Origin
from mlspec.reporting.plan.sources import Source


@dataclass(frozen=True)
class Part:
    name: str
    size: str
    share: str
    rule: str
    style: int


@dataclass(frozen=True)
class Memory:
    total: str
    budget: str
    spare: str
    segments: tuple[Segment, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Rate:
    name: str
    expected: str
    band: str
    whisker: Whisker


@dataclass(frozen=True)
class Value:
    key: str
    name: str
    value: str
    origin: Origin
    rule: str
    sources: tuple[Source, ...]
    rejected: tuple[str, ...]


@dataclass(frozen=True)
class Target:
    name: str
    machine: str
    described: tuple[str, ...]
    weights: str
    concurrency: str
    context: str
    decode: str
    memory: Memory | None
    rates: tuple[Rate, ...]
    speed_rule: str
    chart: Chart | None
    groups: tuple[tuple[str, tuple[Value, ...]], ...]
