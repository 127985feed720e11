"""The shapes of a page, worked out in numbers: a template only writes them down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlspec.model.plan import MemoryPlan
from mlspec.reporting.marks import Dot, Tick
from mlspec.reporting.plan.curve import Curve

BAR_WIDTH = 1000.0
_LEAST_SEEN = 3.0
"""A part that takes next to nothing is still drawn so wide."""

WIDTH, HEIGHT = 380.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 24.0, 42.0
_MOST_TICKS = 7


@dataclass(frozen=True)
class Segment:
    """A part of the bar; `style` numbers its colour."""

    x: str
    width: str
    style: int
    title: str


@dataclass(frozen=True)
class Chart:
    """The curve in the coordinates of its picture; `line` and `area` are points as SVG writes them."""

    line: str
    area: str
    dots: tuple[Dot, ...]
    planned: Dot
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


@dataclass(frozen=True)
class Whisker:
    """A speed's band: from `low` to `high` with the expected value between, in percent of the widest."""

    low: str
    width: str
    expected: str


def segments(memory: MemoryPlan, titles: Sequence[str]) -> tuple[Segment, ...]:
    """The parts of the footprint along the budget, or along their own sum where there is none."""
    whole = max(memory.budget_bytes or 0, memory.footprint_bytes, 1)
    found, x = [], 0.0
    for index, part in enumerate(memory.parts):
        width = max(part.bytes * BAR_WIDTH / whole, _LEAST_SEEN) if part.bytes else 0.0
        if width:
            found.append(Segment(f"{x:.1f}", f"{width:.1f}", index % 6, titles[index]))
        x += width
    return tuple(found)


def chart(curve: Curve) -> Chart:
    """The curve over a logarithmic number of requests and a linear context from zero."""
    points = curve.points
    across = _Axis(math.log2(points[0][0]), math.log2(points[-1][0]), _LEFT, WIDTH - _RIGHT)
    ceiling = max(max(tokens for _, tokens in points), curve.planned[1])
    up = _Axis(0.0, float(ceiling), HEIGHT - _BOTTOM, _TOP)
    dots = tuple(_dot(point, across, up) for point in points)
    line = " ".join(f"{dot.x},{dot.y}" for dot in dots)
    floor = f"{HEIGHT - _BOTTOM:.1f}"
    return Chart(
        line=line,
        area=f"{dots[0].x},{floor} {line} {dots[-1].x},{floor}",
        dots=dots,
        planned=_dot(curve.planned, across, up),
        across=tuple(Tick(across.at(math.log2(n)), str(n)) for n in _thinned([n for n, _ in points])),
        up=tuple(Tick(up.at(float(tokens)), _short(tokens)) for tokens in _rounds(ceiling)),
    )


def whisker(low_expected_high: tuple[float, float, float]) -> Whisker:
    """A band in a picture that reaches from nothing to a little beyond its high end."""
    low, expected, high = (value * 92 / low_expected_high[2] for value in low_expected_high)
    return Whisker(f"{low:.1f}", f"{high - low:.1f}", f"{expected:.1f}")


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> str:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return f"{self.start + share * (self.end - self.start):.1f}"


def _dot(point: tuple[int, int], across: _Axis, up: _Axis) -> Dot:
    requests, tokens = point
    noun = "request" if requests == 1 else "requests"
    return Dot(across.at(math.log2(requests)), up.at(tokens), f"{requests} {noun} at once: {tokens:,} tokens each")


def _thinned(counts: Sequence[int]) -> Iterator[int]:
    """Not so many that their labels would touch: powers of two where there are too many."""
    powers = [count for count in counts if count & (count - 1) == 0]
    yield from counts if len(counts) <= _MOST_TICKS else powers


def _rounds(ceiling: int) -> list[int]:
    """Up to five round numbers of tokens from zero to the ceiling, by powers of two."""
    step = 2 ** max(0, math.ceil(math.log2(ceiling / 4)))
    return list(range(0, ceiling + 1, step))


def _short(tokens: int) -> str:
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else f"{tokens:,}"
