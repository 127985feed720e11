"""The policy: which quantization, how many requests at once, how long a context and which prefill step.

Pure arithmetic over one question: how many bytes does it take? What a spec sets is a range of one value, so it is never
changed. More memory never gives a choice that the policy ranks lower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlspec.model.spec import Prefer
from mlspec.runners.mlx_lm.model import Quantization

CONTEXT_STEP = 256
"""Tokens by which mlx_lm's caches grow (`KVCache.step`)."""

NO_LIMIT = 2**62

FLOORS: Mapping[Prefer, tuple[int, int]] = {
    "balanced": (4, 8192),
    "quality": (1, 4096),
    "concurrency": (NO_LIMIT, 8192),
    "context": (1, NO_LIMIT),
}
"""What a service should have at least, in requests at once and tokens each, before it takes a stronger quantization."""

SHORTEST_FOR_MANY = 4096
"""Many requests are what `prefer: concurrency` asks for, but not with less context than this each."""

MODEST_CONTEXT = 8192
"""A context up to this length is worth a smaller prefill step than the quick ones."""

QUICK_STEP = 512
"""Reading a prompt in smaller steps than this costs speed. Larger ones hardly gain any: a step reads the weights once,
about a hundredth of the time that it computes (8 billion parameters on an M2 Max)."""


@dataclass(frozen=True)
class Range:
    """The whole numbers from `least` to `most`: one alone where the spec sets it."""

    least: int
    most: int

    def clamp(self, value: int) -> int:
        return max(self.least, min(value, self.most))


@dataclass(frozen=True)
class Option:
    """Weights held in one way, as they are stored where `quantization` is None; `weights_bytes` is in memory."""

    quantization: Quantization | None
    weights_bytes: int
    last_resort: bool = False

    @property
    def title(self) -> str:
        """`8-bit`, `mxfp4`, or `as it is`."""
        if self.quantization is None:
            return "as it is"
        return f"{self.quantization.bits}-bit" if self.quantization.mode == "affine" else self.quantization.mode


@dataclass(frozen=True)
class Point:
    """One way to serve the model; `context` and `step` in tokens."""

    option: Option
    concurrency: int
    context: int
    step: int


@dataclass(frozen=True)
class Question:
    """What there is to choose from. `needs` counts the bytes of a point; a `budget_bytes` of None has no bound.

    `options` are the quantizations from mildest to strongest, `steps` the prefill steps from largest to smallest.
    """

    options: tuple[Option, ...]
    concurrency: Range
    context: Range
    steps: tuple[int, ...]
    prefer: Prefer
    budget_bytes: int | None
    needs: Callable[[Point], int]

    @property
    def open(self) -> bool:
        """That something is left to choose."""
        ranges = (self.concurrency, self.context)
        return len(self.options) > 1 or len(self.steps) > 1 or any(r.least < r.most for r in ranges)

    def fits(self, point: Point) -> bool:
        return self.budget_bytes is None or self.needs(point) <= self.budget_bytes

    def floor(self, option: Option) -> Point:
        """What the preference asks for at least, with the smallest prefill step that is still quick."""
        concurrency, context = FLOORS[self.prefer]
        quick = [step for step in self.steps if step >= QUICK_STEP] or [self.steps[0]]
        return Point(option, self.concurrency.clamp(concurrency), self.context.clamp(context), quick[-1])

    def least(self) -> Point:
        """The smallest service that the policy would still plan."""
        return Point(self.options[-1], self.concurrency.least, self.context.least, self.steps[-1])


@dataclass(frozen=True)
class Choice:
    """The point that was chosen, and the `floor` at which its quantization was found to fit."""

    point: Point
    floor: Point


def choose(question: Question) -> Choice | None:
    """The policy's choice, or None if not even the smallest service fits."""
    for floor in _floors(question):
        if question.fits(floor):
            return Choice(_grown(question, floor), floor)
    return None


def _floors(question: Question) -> Iterator[Point]:
    """What to try, best first: each quantization with all that the preference asks for, then less of it.

    A quantization that is a last resort comes after everything else: it costs too much quality to be taken for
    more requests or a longer context.
    """
    last_resort = [option for option in question.options if option.last_resort]
    usual = [option for option in question.options if not option.last_resort]
    for group in (usual, last_resort):
        floors = [question.floor(option) for option in group]
        yield from floors
        if floors:
            yield from _relaxed(question, floors[-1])


def _relaxed(question: Question, floor: Point) -> Iterator[Point]:
    """The floor with less and less; a modest context is only given up after the prefill step."""
    if question.prefer != "concurrency":
        yield (floor := replace(floor, concurrency=question.concurrency.least))
    last = floor
    for context in _halves(floor.context, question.context.least):
        if context < SHORTEST_FOR_MANY:
            yield (last := replace(last, concurrency=question.concurrency.least, step=question.steps[-1]))
        step = floor.step if context > MODEST_CONTEXT else question.steps[-1]
        last = replace(floor, context=context, step=step)
        yield last
    yield replace(last, concurrency=question.concurrency.least, step=question.steps[-1])


def _halves(context: int, least: int) -> Iterator[int]:
    """The context and its halves, down to the least."""
    yield context
    while context > least:
        context = max(context // 2 // CONTEXT_STEP * CONTEXT_STEP, least)
        yield context


def _grown(question: Question, floor: Point) -> Point:
    """As much of everything as still fits, in the preference's order; a larger step gains least, and comes last."""
    grow = (_longer, _more_requests) if question.prefer == "context" else (_more_requests, _longer)
    point = floor
    for more in (*grow, _larger_step):
        point = more(question, point)
    return point


def _more_requests(question: Question, point: Point) -> Point:
    counts = range(point.concurrency, question.concurrency.most + 1)
    return _last_that_fits(question, [replace(point, concurrency=count) for count in counts])


def _larger_step(question: Question, point: Point) -> Point:
    steps = sorted(step for step in question.steps if step >= point.step)
    return _last_that_fits(question, [replace(point, step=step) for step in steps])


def _longer(question: Question, point: Point) -> Point:
    """Multiples of the step by which caches grow, or the longest there is."""
    longest = replace(point, context=question.context.most)
    if question.fits(longest):
        return longest
    low, high = point.context // CONTEXT_STEP, question.context.most // CONTEXT_STEP
    while low < high:
        middle = (low + high + 1) // 2
        fits = question.fits(replace(point, context=middle * CONTEXT_STEP))
        low, high = (middle, high) if fits else (low, middle - 1)
    return replace(point, context=max(point.context, low * CONTEXT_STEP))


def _last_that_fits(question: Question, points: Sequence[Point]) -> Point:
    """Of points that each need more than the one before, the first of which fits."""
    last = points[0]
    for point in points[1:]:
        if not question.fits(point):
            break
        last = point
    return last
