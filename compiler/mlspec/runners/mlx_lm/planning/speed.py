"""What speed to expect of one request."""

from __future__ import annotations

from dataclasses import replace

from mlspec.model.plan import Speed
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


def _bits(situation: Situation, point: Point) -> int:
    if point.option.quantization is not None:
        return point.option.quantization.bits
    stored = situation.base.details["quantization"] or {}
    return int(stored.get("bits", 16))
