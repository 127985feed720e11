"""The predicted memory of language models is what MLX measures on a CPU; `benchmarks/footprint.py` has more."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from benchmarks.footprint import MOST_PEAK_OFF, SMOLLM2, compared
from facts import mlx_models
from mlspec.runners.mlx_lm.families import architecture
from models.memory import Case
from models.shapes import SHAPES

pytestmark = pytest.mark.e2e

CASES = (
    Case("grouped", 8, 512, 128),
    Case("16-bit", 2, 500, 128),
    Case("8-bit", 4, 512, 256),
    Case("4-bit", 1, 500, 256),
    Case("gemma3", 4, 500, 128),
    Case("deepseek-v3", 2, 500, 256),
    Case("qwen3-moe", 4, 300, 256),
    Case("falcon-h1", 2, 500, 256),
    Case("multi-head", 4, 500, 256, kv_bits=8),
    Case("multi-head", 2, 500, 256, kv_bits=4),
    Case(SMOLLM2, 2, 300, 256),
)
UNMEASURED = {"parameters", "active_parameters"}
"""Memory doesn't depend on them: the hand-written ones are 0."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_cache_and_peak_are_as_predicted(case: Case) -> None:
    one = compared(case)
    assert one.is_close, f"weights and cache {one.held_off:+.1%}, peak {one.peak_off:+.1%}: {one}"


LATE = (
    Case("multi-head", 4, 300, 256, spread=0, generated=16, late=True),
    Case("gemma3", 3, 600, 128, spread=0, generated=16, late=True),
)


@pytest.mark.parametrize("case", LATE, ids=str)
def test_the_peak_is_as_predicted_when_requests_come_while_a_prompt_is_read(case: Case) -> None:
    one = compared(case)
    assert abs(one.peak_off) <= MOST_PEAK_OFF, f"{one.peak_off:+.1%}: {one}"


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_read_of_a_model_is_what_was_measured(name: str) -> None:
    shape = SHAPES[name]
    header = mlx_models.header(mlx_models.parameters(mlx_models.build(shape.config)))
    assert _memory(architecture(shape.config, header)) == _memory(shape.architecture)


def _memory(shape: Any) -> dict[str, Any]:
    found = {field.name: getattr(shape, field.name) for field in fields(shape) if field.name not in UNMEASURED}
    return {**found, "keeps": set(found["keeps"])}
