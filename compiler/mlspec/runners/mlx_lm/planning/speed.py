"""What speed to expect of one request."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from mlspec.model.plan import Speed
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.footprint import kv_bytes
from mlspec.runners.mlx_lm.planning.policy import Point
from mlspec.runners.mlx_lm.planning.situation import Situation

USUAL_TOKENS = 1024
"""A usual request's prompt and answer: what its cache holds is read for each token."""


def estimate_speed(situation: Situation, point: Point) -> Speed | None:
    """The estimate for one request alone; None without a machine that has an Apple chip."""
    if situation.machine is None or situation.machine.chip is None:
        return None
    from mlspec.hardware.speed import estimate  # reads tables: only for a machine

    architecture = situation.architecture
    read = point.option.weights_bytes * architecture.active_parameters // max(1, architecture.parameters)
    one = replace(point, concurrency=1, context=min(point.context, USUAL_TOKENS))
    return estimate(
        situation.machine,
        bytes_per_token=read + kv_bytes(architecture, situation.load(one)),
        layers=architecture.layers,
        active_parameters=architecture.active_parameters,
        parameters=architecture.parameters,
        experts=architecture.experts is not None,
        four_bit=_bits(situation, point) <= 4,
    )


def warn_of_slow_prompts(situation: Situation, point: Point, faults: Faults) -> None:
    """Say so where reading one prompt of the whole context takes longer than a request may."""
    readable, timeout_s = situation.readable_tokens, situation.spec.service.limits.timeout_s
    if readable is None or readable >= point.context:
        return
    seconds, pointer = situation.reading_s(point.context), ("context_length",)
    message = f"reading a prompt of all {point.context:,} tokens takes about {ceil(seconds):,} s by the estimate"
    message += f", longer than the timeout of {timeout_s:g} s"
    lower = f"lower model.context_length to {readable}, or " if readable else ""
    given = situation.model.context_length != "auto"
    faults.warning(
        "slow-prompt", message, pointer if given else ("base",), help=f"{lower}raise service.limits.timeout_s"
    )


def _bits(situation: Situation, point: Point) -> int:
    if point.option.quantization is not None:
        return point.option.quantization.bits
    stored = situation.base.details["quantization"] or {}
    return int(stored.get("bits", 16))
