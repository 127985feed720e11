"""The planner's policy: what it gives up first where memory is short, as a table, and that more memory never hurts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlspec.model.spec import Prefer
from mlspec.runners.mlx_lm.model import Quantization
from mlspec.runners.mlx_lm.planning.policy import FLOORS, Choice, Option, Point, Question, Range, choose

MIB = 2**20
GIB = 2**30
STEPS = (2048, 1024, 512, 256, 128)


def option(parameters: int, bits: int | None) -> Option:
    """Weights of 16 bits, or affine ones in groups of 64."""
    if bits is None:
        return Option(None, parameters * 2)
    quantization = Quantization(bits=bits, group_size=64)  # type: ignore[arg-type]
    return Option(quantization, int(parameters * (bits + 0.5) / 8), last_resort=bits == 3)


@dataclass(frozen=True)
class Model:
    """The memory of a model with ordinary attention: weights, a cache a token, activations a token that is read."""

    parameters: int
    token_bytes: int
    step_bytes: int
    context: int

    def needs(self, point: Point) -> int:
        cache = point.concurrency * point.context * self.token_bytes
        return point.option.weights_bytes + cache + point.concurrency * point.step * self.step_bytes

    def question(self, gib: float | None, prefer: Prefer = "balanced", useful: int = 8) -> Question:
        return Question(
            options=tuple(option(self.parameters, bits) for bits in (None, 8, 6, 5, 4, 3)),
            concurrency=Range(1, useful),
            context=Range(1024, self.context),
            steps=STEPS,
            prefer=prefer,
            budget_bytes=None if gib is None else int(gib * GIB),
            needs=self.needs,
        )


EIGHT_B = Model(8_000_000_000, 128 * 1024, 64 * 1024, 131072)


def told(choice: Choice | None) -> tuple[str, int, int, int] | None:
    if choice is None:
        return None
    point = choice.point
    return point.option.title, point.concurrency, point.context, point.step


@pytest.mark.parametrize(
    ("gib", "prefer", "expected"),
    [
        # Where nothing is known of the memory, and where there is plenty of it, the preference makes no difference.
        (None, "balanced", ("as it is", 8, 131072, 2048)),
        (200, "context", ("as it is", 8, 131072, 2048)),
        # As many requests as are of use, then as much context as there is left; a larger step if nothing else can grow.
        (48, "balanced", ("as it is", 8, 33536, 512)),
        (48, "context", ("as it is", 2, 131072, 2048)),
        # The same memory by each preference.
        (20, "balanced", ("as it is", 4, 9984, 512)),
        (20, "quality", ("as it is", 8, 4864, 512)),
        (20, "concurrency", ("8-bit", 8, 12032, 512)),
        (20, "context", ("4-bit", 1, 129024, 512)),
        (10.7, "balanced", ("6-bit", 4, 9216, 512)),
        (10.7, "quality", ("8-bit", 5, 4096, 512)),
        (10.7, "concurrency", ("4-bit", 8, 6400, 512)),
        (10.7, "context", ("4-bit", 1, 52992, 512)),
        # 4 bits and fewer requests rather than 3 bits; then smaller steps, then a shorter context.
        (8, "balanced", ("4-bit", 3, 9984, 512)),
        (5, "balanced", ("4-bit", 1, 6400, 256)),
        (4.35, "balanced", ("4-bit", 1, 1024, 512)),
        # 3 bits only where 4 can't be.
        (4.2, "balanced", ("3-bit", 1, 7424, 512)),
        (3.3, "balanced", None),
    ],
)
def test_what_8_billion_parameters_get(gib: float | None, prefer: Prefer, expected: object) -> None:
    assert told(choose(EIGHT_B.question(gib, prefer))) == expected


def test_a_passive_machine_reads_in_steps_of_its_own() -> None:
    question = replace(EIGHT_B.question(48, useful=4), steps=(512, 256, 128))
    assert told(choose(question)) == ("as it is", 4, 67328, 512)


@pytest.mark.parametrize(
    ("gib", "expected"),
    [
        (14, ("4-bit", 16, 4864, 256)),
        (11, ("4-bit", 13, 4096, 256)),
        (6, ("4-bit", 3, 4864, 128)),
        (4.6, ("4-bit", 1, 3072, 512)),
    ],
)
def test_many_requests_are_given_up_before_a_context_of_some_use(gib: float, expected: object) -> None:
    assert told(choose(EIGHT_B.question(gib, "concurrency", useful=16))) == expected


@pytest.mark.parametrize("prefer", FLOORS)
@pytest.mark.parametrize("gib", [4.2, 6, 9, 12, 20, 60])
def test_what_the_spec_sets_is_never_changed(gib: float, prefer: Prefer) -> None:
    question = EIGHT_B.question(gib, prefer)
    fixed = replace(question, concurrency=Range(3, 3), context=Range(5000, 5000), steps=(700,))
    choice = choose(fixed)
    assert choice is None or told(choice)[1:] == (3, 5000, 700)  # type: ignore[index]
    only = replace(question, options=question.options[1:2])
    assert told(choose(only)) is None or told(choose(only))[0] == "8-bit"  # type: ignore[index]


def test_an_explicit_3_bit_is_taken_like_any_other() -> None:
    question = EIGHT_B.question(9)
    assert told(choose(replace(question, options=question.options[-1:]))) == ("3-bit", 5, 8960, 512)


def test_a_long_context_that_is_given_may_take_the_smallest_step() -> None:
    question = replace(EIGHT_B.question(None), context=Range(65536, 65536), options=(option(8_000_000_000, 4),))
    least = question.needs(question.least())
    assert told(choose(replace(question, budget_bytes=least))) == ("4-bit", 1, 65536, 128)
    assert choose(replace(question, budget_bytes=least - 1)) is None


def test_the_longest_context_needs_no_multiple_of_the_step() -> None:
    question = replace(EIGHT_B.question(200), context=Range(1000, 40001))
    assert told(choose(question)) == ("as it is", 8, 40001, 2048)
    short = choose(replace(question, budget_bytes=20 * GIB))
    assert short is not None
    assert short.point.context % 256 == 0


MODELS = st.builds(
    Model,
    parameters=st.integers(10**6, 10**12),
    token_bytes=st.integers(0, 2 * MIB),
    step_bytes=st.integers(0, MIB),
    context=st.sampled_from((128, 1000, 2048, 32768, 131072, 1_000_000)),
)
QUESTIONS = st.tuples(MODELS, st.sampled_from(sorted(FLOORS)), st.sampled_from((1, 4, 8, 16)))


def question_of(drawn: tuple[Model, Prefer, int]) -> Question:
    model, prefer, useful = drawn
    found = model.question(None, prefer, useful)
    return replace(found, context=Range(min(1024, model.context), model.context))


def between(question: Question, part: float) -> int:
    """A budget between what the smallest service needs and what the largest does, or a little beside them."""
    most = Point(question.options[0], question.concurrency.most, question.context.most, question.steps[0])
    low, high = question.needs(question.least()), question.needs(most)
    return int(low * 0.98 + part * (high * 1.02 - low * 0.98))


def rank(question: Question, choice: Choice | None) -> tuple[float, ...]:
    """How good the policy itself holds a choice to be, the weightiest first."""
    if choice is None:
        return ()
    point, floor = choice.point, choice.floor
    resort, mildness = not point.option.last_resort, -question.options.index(point.option)
    whole = floor == question.floor(point.option)
    reached: tuple[int, ...] = (floor.context, floor.concurrency, floor.step)
    grown: tuple[int, ...] = (point.concurrency, point.context, point.step)
    if question.prefer == "concurrency":
        reached = (floor.concurrency, floor.context, floor.step)
    if question.prefer == "context":
        grown = (point.context, point.concurrency, point.step)
    return (resort, mildness, whole, *reached, *grown)


@settings(max_examples=300, deadline=None)
@given(QUESTIONS, st.floats(0, 1), st.floats(0, 1))
def test_more_memory_is_never_worse(drawn: tuple[Model, Prefer, int], one: float, other: float) -> None:
    question = question_of(drawn)
    less, more = (replace(question, budget_bytes=between(question, part)) for part in sorted((one, other)))
    worse, better = choose(less), choose(more)
    assert rank(less, worse) <= rank(more, better)
    if worse is not None:
        assert better is not None
        quality = [more.options.index(choice.point.option) for choice in (better, worse)]
        assert quality[0] <= quality[1], "a stronger quantization with more memory"
        assert less.fits(worse.point)
        assert more.fits(better.point)


@settings(max_examples=150, deadline=None)
@given(QUESTIONS, st.floats(0, 1), st.floats(0, 1))
def test_with_all_else_given_more_memory_is_more_of_each(
    drawn: tuple[Model, Prefer, int], one: float, other: float
) -> None:
    """Of one quantization: more requests where the context is given, a longer context where the requests are."""
    question = question_of(drawn)
    question = replace(question, options=question.options[4:5], steps=(512,))
    fixed_context = replace(question, context=Range(question.context.least, question.context.least))
    fixed_requests = replace(question, concurrency=Range(1, 1))
    for case, axis in ((fixed_context, "concurrency"), (fixed_requests, "context")):
        found = [choose(replace(case, budget_bytes=between(case, part))) for part in sorted((one, other))]
        values = [0 if choice is None else getattr(choice.point, axis) for choice in found]
        assert values[0] <= values[1]


@settings(max_examples=150, deadline=None)
@given(QUESTIONS, st.floats(0, 1))
def test_none_is_said_only_if_the_smallest_service_does_not_fit(drawn: tuple[Model, Prefer, int], part: float) -> None:
    question = question_of(drawn)
    question = replace(question, budget_bytes=between(question, part))
    assert (choose(question) is None) == (not question.fits(question.least()))
