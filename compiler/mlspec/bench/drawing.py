"""The lines of a page, worked out in numbers: a template only writes them down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlspec.bench.formats import number
from mlspec.bench.measures import Level, Spread
from mlspec.bench.record import Record
from mlspec.reporting.marks import Dot, Tick

WIDTH, HEIGHT = 380.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 22.0, 42.0
_STEPS = (1.0, 2.0, 5.0, 10.0)
_MOST_TICKS = 8
_WIDE = 20

Values = Sequence[tuple[int, float]]
"""(concurrency, value)"""


@dataclass(frozen=True)
class Line:
    """`style` is its class in the page; `points` as SVG writes them."""

    name: str
    style: str
    points: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Plot:
    """A picture of some lines over the number of clients; `unit` is that of the values."""

    title: str
    unit: str
    note: str
    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]


def plots(record: Record, before: Record | None) -> list[Plot]:
    """Throughput, first token, time per token and latency, as far as they were measured."""
    throughput = _throughput(record, before)
    times = (
        ("Time to the first token", lambda level: level.first_token_s, "The queue, the prompt, and the first step."),
        ("Time per token", lambda level: level.per_token_s, "After the first one; what a reader sees as speed."),
        ("Latency", lambda level: level.latency_s, "From the request to the end of its answer."),
    )
    return [throughput, *filter(None, (_times(*one, record, before) for one in times))]


def _throughput(record: Record, before: Record | None) -> Plot:
    unit = "tokens/s" if any(level.tokens_per_s is not None for level in record.levels) else "requests/s"
    series = [("all clients", "p50", _values(record, lambda level: level.throughput))]
    each = _values(record, lambda level: level.tokens_per_s_each)
    series += [("each client", "p95", each)] if each else []
    series += [("before", "before", _values(before, lambda level: level.throughput))] if before else []
    return plot("Throughput", unit, "Where the upper line goes flat, more clients only wait.", series, is_time=False)


def _times(
    title: str, of: Callable[[Level], Spread | None], note: str, record: Record, before: Record | None
) -> Plot | None:
    def milliseconds(which: str) -> Callable[[Level], float | None]:
        return lambda level: getattr(spread, which) * 1000 if (spread := of(level)) else None

    p50 = _values(record, milliseconds("p50"))
    if not p50:
        return None
    series = [("p50", "p50", p50), ("p95", "p95", _values(record, milliseconds("p95")))]
    series += [("p50 before", "before", _values(before, milliseconds("p50")))] if before else []
    return plot(title, "ms", note, series)


def _values(record: Record, of: Callable[[Level], float | None]) -> Values:
    return [(level.concurrency, value) for level in record.levels if (value := of(level)) is not None]


def plot(title: str, unit: str, note: str, series: Sequence[tuple[str, str, Values]], *, is_time: bool = True) -> Plot:
    """Lines (name, style, values) over a logarithmic number of clients. Values begin at zero; but times of which the
    greatest is many times the least are logarithmic, too.
    """
    drawn = [one for one in series if one[2]]
    counts = sorted({count for _, _, values in drawn for count, _ in values})
    every = [value for _, _, values in drawn for _, value in values]
    is_wide = is_time and min(every) > 0 and max(every) > _WIDE * min(every)
    ticks = decades(min(every), max(every)) if is_wide else round_numbers(max(every) or 1.0)
    measured: Callable[[float], float] = math.log10 if is_wide else float
    across = _Axis(math.log2(counts[0]), math.log2(counts[-1]), _LEFT, WIDTH - _RIGHT, math.log2)
    up = _Axis(measured(ticks[0]), measured(ticks[-1]), HEIGHT - _BOTTOM, _TOP, measured)
    return Plot(
        title=title,
        unit=unit,
        note=f"{note} The scale is logarithmic." if is_wide else note,
        lines=tuple(_line(name, style, values, unit, across, up) for name, style, values in drawn),
        across=tuple(Tick(across.at(count), str(count)) for count in _thinned(counts)),
        up=tuple(Tick(up.at(value), f"{value:,g}") for value in ticks),
    )


def _line(name: str, style: str, values: Values, unit: str, across: _Axis, up: _Axis) -> Line:
    dots = tuple(
        Dot(across.at(count), up.at(value), f"{name}, {count} at once: {number(value)} {unit}")
        for count, value in values
    )
    return Line(name, style, " ".join(f"{dot.x},{dot.y}" for dot in dots), dots)


def round_numbers(ceiling: float) -> list[float]:
    """Three to six round numbers from zero up to the ceiling or a little above."""
    magnitude = 10.0 ** math.floor(math.log10(ceiling / 5))
    step = next(step * magnitude for step in _STEPS if step * magnitude * 5 >= ceiling)
    return [round(step * index, 9) for index in range(math.ceil(ceiling / step) + 1)]


def decades(least: float, most: float) -> list[float]:
    """Powers of ten from below the least to above the most."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [round(10.0**power, 9) for power in range(first, last + 1)]


def _thinned(counts: Sequence[int]) -> Sequence[int]:
    """Not so many that their labels would touch: powers of two where there are too many."""
    powers = [count for count in counts if count & (count - 1) == 0]
    return counts if len(counts) <= _MOST_TICKS else powers or (counts[0], counts[-1])


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    measured: Callable[[float], float]

    def at(self, value: float) -> str:
        share = (self.measured(value) - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return f"{self.start + share * (self.end - self.start):.1f}"
