"""How many requests are computed at once."""

from __future__ import annotations

from dataclasses import replace

from mlspec.model.plan import Decision
from mlspec.runners.mlx_lm.planning.model import AS_THE_SPEC_SAYS, BUDGET, over
from mlspec.runners.mlx_lm.planning.policy import Point, Question
from mlspec.runners.mlx_lm.planning.situation import Situation


def decide_concurrency(situation: Situation, question: Question, point: Point) -> Decision:
    key, spec = "service.concurrency", "spec:/service/concurrency"
    if situation.spec.service.concurrency != "auto":
        return Decision(key, point.concurrency, AS_THE_SPEC_SAYS, (spec,), given=True)
    useful = situation.useful
    if point.concurrency == useful.concurrency:
        return Decision(key, point.concurrency, useful.reason, (spec, *useful.inputs))
    context = question.floor(point.option).context
    rule = f"as many as fit; {useful.concurrency} would be of use: {useful.reason}"
    inputs = (spec, "spec:/service/prefer", *useful.inputs, "plan:model.quantization", BUDGET)
    more = replace(point, concurrency=point.concurrency + 1, context=min(point.context, context))
    return Decision(key, point.concurrency, rule, inputs, over(question, [(_at(more), more)]))


def _at(point: Point) -> str:
    return f"{point.concurrency} of {point.context:,} tokens"
