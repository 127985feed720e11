"""The speed estimate beside what was measured, row by row: `speed_against_tables.py [--markdown]`.

Ends with 1 if a bound is broken. `--markdown` prints what docs/speed.md holds between its markers. Nothing is measured
here: the rows are those of `hardware/data/throughput.yaml`, one half of the chips fitted, the other held out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.speed_rows import Row, fitted_chips, rows

WITHIN = 0.15
LEAST_SHARE = 0.8
WIDEST = (-0.25, 0.40)

_HEAD = ("chip", "GPU cores", "engine", "model", "half", "measured", "estimate", "error", "band", "in it")


@dataclass(frozen=True)
class Compared:
    """One measured rate beside its estimate (low, expected, high), in tokens/s."""

    row: Row
    measured: float
    estimate: tuple[float, float, float]

    @property
    def error(self) -> float:
        """How much faster the measurement is than the estimate, as a share of the estimate."""
        return self.measured / self.estimate[1] - 1

    @property
    def band(self) -> tuple[float, float]:
        low, expected, high = self.estimate
        return low / expected - 1, high / expected - 1

    @property
    def in_band(self) -> bool:
        return self.estimate[0] <= self.measured <= self.estimate[2]

    @property
    def narrow(self) -> bool:
        """Its band is no wider than a plain row's may be."""
        return WIDEST[0] <= self.band[0] and self.band[1] <= WIDEST[1]

    def cells(self) -> tuple[str, ...]:
        row, (low, high) = self.row, self.band
        return (
            row.chip.name.removeprefix("Apple "),
            str(row.chip.gpu_cores) if row.cores_known else "?",
            row.engine,
            f"{row.model} {row.format}",
            f"aside: {row.aside}" if row.aside else row.half,
            f"{self.measured:g}",
            f"{self.estimate[1]:g}",
            f"{round(self.error, 2) + 0.0:+.0%}",
            f"{low:+.0%} to {high:+.0%}",
            "yes" if self.in_band else "no",
        )


@dataclass(frozen=True)
class Group:
    """Rows that a bound is for. `plain`: most must be near and the band narrow; else it must only hold them all."""

    name: str
    compared: tuple[Compared, ...]
    plain: bool = True

    @property
    def share(self) -> float:
        return sum(abs(one.error) <= WITHIN for one in self.compared) / len(self.compared)

    @property
    def kept(self) -> bool:
        near = self.share >= LEAST_SHARE and all(one.narrow for one in self.compared)
        return all(one.in_band for one in self.compared) and (near or not self.plain)

    def cells(self) -> tuple[str, ...]:
        errors = [one.error for one in self.compared]
        inside = sum(one.in_band for one in self.compared)
        spread = f"{min(errors):+.0%} to {max(errors):+.0%}"
        kept = "kept" if self.kept else "BROKEN"
        return self.name, str(len(errors)), f"{self.share:.0%}", spread, f"{inside}", kept


def decodes() -> tuple[Compared, ...]:
    return tuple(Compared(row, row.decode, row.estimate.decode_tokens_per_s) for row in rows())


def prefills() -> tuple[Compared, ...]:
    """Prompt rates, where the number of GPU cores is known."""
    return tuple(_prefills())


def _prefills() -> Iterator[Compared]:
    for row in rows():
        estimate = row.estimate.prefill_tokens_per_s
        if row.prefill is not None and row.cores_known and estimate is not None:
            yield Compared(row, row.prefill, estimate)


def groups(compared: Sequence[Compared]) -> tuple[Group, ...]:
    """What bounds are for: the plain rows of either half, of each table; and the others, but for those set aside."""
    plain = [one for one in compared if one.row.plain]

    def of(name: str, chosen: Iterable[Compared], *, plain: bool = True) -> Group:
        return Group(name, tuple(chosen), plain)

    return (
        of("fitted half", (one for one in plain if one.row.half == "fitted")),
        of("held-out half", (one for one in plain if one.row.half == "held out")),
        of("7B table without Ultras", (one for one in plain if one.row.engine == "llama.cpp")),
        of("Qwen3-4B on the M4 Max", (one for one in plain if _is_qwen_on_m4_max(one.row))),
        of("MLX, Ultras left out", (one for one in plain if one.row.engine == "MLX")),
        of("with a wider band", (o for o in compared if not o.row.plain and not o.row.aside), plain=False),
    )


def _is_qwen_on_m4_max(row: Row) -> bool:
    return (row.model, row.chip.name) == ("Qwen3-4B", "Apple M4 Max")


def tables() -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Title, head and lines of all that is printed."""
    for what, compared in (("Generation", decodes()), ("Prompt", prefills())):
        head = ("rows", "count", f"within {WITHIN:.0%}", "errors", "in the band", "bounds")
        yield f"{what}: summary", head, [group.cells() for group in groups(compared)]
        yield f"{what}: tokens a second, row by row", _HEAD, [one.cells() for one in compared]


def markdown() -> str:
    """The tables as docs/speed.md has them."""
    parts = [f"Fitted chips: {', '.join(name.removeprefix('Apple ') for name in fitted_chips())}."]
    for title, head, lines in tables():
        cells = [head, tuple("---" for _ in head), *lines]
        parts.append(f"### {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in cells))
    return "\n\n".join(parts) + "\n"


def text() -> str:
    parts = []
    for title, head, lines in tables():
        widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
        aligned = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in [head, *lines]]
        parts.append("\n".join([title, *aligned]) + "\n")
    return "\n".join(parts)


def kept() -> bool:
    return all(group.kept for compared in (decodes(), prefills()) for group in groups(compared))


if __name__ == "__main__":
    print(markdown() if "--markdown" in sys.argv[1:] else text(), end="")
    sys.exit(not kept())
