"""A memory budget as a bar of cells: each part in proportion, what is spare at its end."""

from __future__ import annotations

from collections.abc import Sequence

from mlspec.model.plan import MemoryPart, MemoryPlan
from mlspec.reporting.plan.look import PARTS, Look
from mlspec.reporting.plan.values import memory

_FILLED, _PLAIN = "█▓▒░▚▄", "#=+:%o"
_SEEN = 0.25
"""Parts of less than this of a cell aren't drawn; a larger one gets at least a whole cell."""


def cells(sizes: Sequence[int], whole: int, width: int) -> list[int]:
    """How many of `width` cells each size of a whole takes; their sum is never more than `width`."""
    if whole <= 0:
        return [0] * len(sizes)
    exact = [size * width / whole for size in sizes]
    rounded = [max(1, round(share)) if share >= _SEEN else 0 for share in exact]
    while sum(rounded) > width:
        largest = max(range(len(rounded)), key=lambda index: rounded[index])
        rounded[largest] -= 1
    return rounded


def bar(plan: MemoryPlan, look: Look, width: int) -> str:
    """The parts against the budget; against their own sum where there is none."""
    whole = max(plan.budget_bytes or 0, plan.footprint_bytes)
    taken = cells([part.bytes for part in plan.parts], whole, width)
    drawn = [_cell(index, look) * count for index, count in enumerate(taken)]
    painted = (look.paint(PARTS[index % len(PARTS)], text) for index, text in enumerate(drawn))
    spare = look.letter("·", ".") * (width - sum(taken)) if plan.budget_bytes is not None else ""
    return "".join(painted) + look.paint("dim", spare)


def legend(parts: Sequence[MemoryPart], look: Look) -> list[str]:
    """`█ weights 7.5 GiB` for each part that takes something."""
    return [f"{_key(index, look)} {part.name} {memory(part.bytes)}" for index, part in enumerate(parts) if part.bytes]


def _key(index: int, look: Look) -> str:
    return look.paint(PARTS[index % len(PARTS)], _cell(index, look))


def _cell(index: int, look: Look) -> str:
    if not look.letters:
        return _PLAIN[index % len(_PLAIN)]
    return "█" if look.colour else _FILLED[index % len(_FILLED)]
