"""What is decided about how the model runs: prefill step, element type, libraries and threads."""

from __future__ import annotations

from dataclasses import replace

from mlspec.model.plan import Decision
from mlspec.runners.mlx_lm.planning.model import AS_THE_SPEC_SAYS, BUDGET, over
from mlspec.runners.mlx_lm.planning.policy import Point, Question
from mlspec.runners.mlx_lm.planning.situation import STEPS, Situation

OPENBLAS = "libopenblas.so.0"
"""Loaded before MLX on a Linux CPU: MLX's wheel links reference BLAS, whose float32 products are many times slower."""

THREADS = "OPENBLAS_NUM_THREADS"

MOST_THREADS = 2
"""Measured: one thread does most for each CPU second, two help a single stream."""


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
    inputs = ("target:accelerator",)
    if situation.on_cpu:
        rule = "on a Linux CPU MLX's own BLAS is the reference one: OpenBLAS loaded before it is many times faster"
        return Decision("runtime.preload_blas", OPENBLAS, rule, inputs)
    return Decision("runtime.preload_blas", None, "the model runs on the GPU", inputs)


def decide_threads(situation: Situation) -> Decision | None:
    """Threads of OpenBLAS; None where there is none."""
    if not situation.on_cpu:
        return None
    key = f"environment.{THREADS}"
    for index, variable in enumerate(situation.spec.service.env):
        if variable.name == THREADS:
            value = variable.value
            return Decision(key, value, AS_THE_SPEC_SAYS, (f"spec:/service/env/{index}",), given=True)
    cpus = situation.machine.cpus if situation.machine else None
    if cpus is None:
        rule = "OpenBLAS decides: the target doesn't say how many cores there are"
        return Decision(key, None, rule, situation.of_machine("cpus"))
    rule = "one thread does most for each CPU second, two help a single request"
    rejected = (f"{cpus}: all cores gain little",) if cpus > MOST_THREADS else ()
    return Decision(key, str(min(MOST_THREADS, cpus)), rule, situation.of_machine("cpus"), rejected)
