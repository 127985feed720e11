"""Fit the constants of the speed estimate again: `python tests/tools/fit_speed.py` prints what `speed.yaml` must hold.

Decode: the time of a token is bytes / (efficiency x bandwidth) + layers x layer_ms (of generation 1, of the others, and
more of a layer of experts), linear in 1 / efficiency and the three costs. They are the least squares of its relative
error over the rows of the fitted chips, but for models under 2B and rows set aside. Prefill: the geometric mean by
generation of 2 x active parameters x tokens/s / cores, of the dense ones of these rows.

`fit_speed.py --swapped` fits on the other half instead: how much the choice of the half matters.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.speed_rows import SMALL_PARAMETERS, Row, rows

_TERMS: tuple[Callable[[Row], float], ...] = (
    lambda row: row.bytes_per_token / (row.chip.bandwidth_gb_s * 1e6),
    lambda row: row.layers * (row.chip.generation == 1),
    lambda row: row.layers * (row.chip.generation > 1),
    lambda row: row.layers * row.experts,
)
"""Milliseconds of a token at a constant of 1."""


def fitted(half: str = "fitted") -> dict[str, float | dict[int, float]]:
    """The constants by their names in `speed.yaml`, to three digits."""
    per_efficiency, first, later, experts = costs(half)
    return {
        "efficiency": _rounded(1 / per_efficiency),
        "layer_ms": {1: _rounded(first), 2: _rounded(later)},
        "expert_layer_ms": _rounded(experts),
        "tflops_per_core": _tflops_per_core(_used(half)),
    }


def costs(half: str) -> list[float]:
    """The costs for which estimated over measured time is nearest to 1: the normal equations, solved."""
    scaled = [[term(row) * row.decode / 1e3 for term in _TERMS] for row in _used(half)]
    size = len(_TERMS)
    matrix = [[sum(line[i] * line[j] for line in scaled) for j in range(size)] for i in range(size)]
    return _solved(matrix, [sum(line[i] for line in scaled) for i in range(size)])


def tokens_per_s(costs: Sequence[float], row: Row) -> float:
    """The estimate of this row by other constants than those of `speed.yaml`."""
    return 1e3 / sum(cost * term(row) for cost, term in zip(costs, _TERMS, strict=True))


def _used(half: str) -> list[Row]:
    return [row for row in rows() if row.half == half and not row.aside and row.parameters >= SMALL_PARAMETERS]


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The solution of a positive definite system, by elimination."""
    lines = [[*line, value] for line, value in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(lines):
        for line in [*lines[:i], *lines[i + 1 :]]:
            factor = line[i] / pivot[i]
            line[:] = [a - factor * b for a, b in zip(line, pivot, strict=True)]
    return [line[-1] / line[i] for i, line in enumerate(lines)]


def _tflops_per_core(used: Sequence[Row]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for row in used:
        if row.prefill is not None and row.cores_known and not row.experts:
            rate = 2 * row.active_parameters * row.prefill / row.chip.gpu_cores / 1e12
            found.setdefault(row.chip.generation, []).append(rate)
    return {g: _rounded(math.exp(math.fsum(map(math.log, rates)) / len(rates))) for g, rates in sorted(found.items())}


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


if __name__ == "__main__":
    for name, value in fitted("held out" if "--swapped" in sys.argv[1:] else "fitted").items():
        print(f"{name}: {value}")
