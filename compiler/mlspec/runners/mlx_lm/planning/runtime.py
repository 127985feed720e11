"""What is decided about how the model runs: prefill step, element type, libraries and threads."""

from __future__ import annotations

from dataclasses import replace

from mlspec.hardware.mlx import preload, threads
from mlspec.model.plan import Decision
from mlspec.runners.mlx_lm.planning.model import AS_THE_SPEC_SAYS, BUDGET, over
from mlspec.runners.mlx_lm.planning.policy import Point, Question
from mlspec.runners.mlx_lm.planning.situation import STEPS, Situation


def decide_prefill_step(situation: Situation, question: Question, point: Point) -> Decision:
    key, spec = "runtime.prefill_step", "spec:/model/prefill_step"
    if situation.model.prefill_step != "auto":
        return Decision(key, point.step, AS_THE_SPEC_SAYS, (spec,), given=True)
    usual = question.steps[0]
    rule = "mlx_lm's own step" if usual == STEPS[0] else "without a fan: short bursts of work"
    inputs = (spec, *situation.of_machine("cooling"))
    if point.step == usual:
        return Decision(key, usual, rule, inputs)
    larger = [(str(step), replace(point, step=step)) for step in question.steps if step > point.step]
    rule = "the largest for which requests and their context leave room"
    return Decision(key, point.step, rule, (*inputs, BUDGET), over(question, larger))


def decide_dtype(situation: Situation) -> Decision:
    """What floats are cast to as the model and its adapters are loaded; None: nothing."""
    key, inputs = "runtime.dtype", ("target:accelerator", "facts:base/dtype")
    if not situation.on_cpu:
        return Decision(key, None, "the model's own: casting costs quality or memory", inputs)
    rule = "on a Linux CPU float32 is many times faster, also for the scales of packed weights"
    own = situation.stored_type
    rejected = () if own == "float32" else (f"{own}, as the model is stored: several times slower",)
    return Decision(key, "float32", rule, inputs, rejected)


def decide_preload(situation: Situation) -> Decision:
    return preload(situation.target)


def decide_threads(situation: Situation) -> Decision | None:
    """Threads of OpenBLAS; None where there is none."""
    given = {v.name: (v.value, f"spec:/service/env/{index}") for index, v in enumerate(situation.spec.service.env)}
    return threads(situation.target, given)
