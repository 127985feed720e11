"""Apple's chips by name: `Apple M5 Ultra` is no `Apple M5`, and one that is newer than the table gets its neighbour."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.characters import quoted
from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.tables import table
from mlspec.model.machine import Chip, Tier
from mlspec.suggest import did_you_mean, listed

_NAME = re.compile(
    r"\s*(?:apple\s+)?([ma])(\d{1,3})(?:\s+([a-z]{1,12}))?\s*(\(virtual\))?\s*", re.IGNORECASE | re.ASCII
)
_TIERS: Mapping[str, Tier] = {"": "base", "Pro": "pro", "Max": "max", "Ultra": "ultra"}


@dataclass(frozen=True)
class ChipName:
    """A chip's name in its parts: `Apple M1 Pro (Virtual)` is series M, number 1, Pro, virtual."""

    series: str
    number: int
    suffix: str
    virtual: bool = False

    @property
    def row(self) -> str:
        """The name as a row of the table has it."""
        return f"Apple {self.series}{self.number} {self.suffix}".rstrip()

    @property
    def text(self) -> str:
        return f"{self.row} (Virtual)" if self.virtual else self.row

    @property
    def tier(self) -> Tier | None:
        return "phone" if self.series == "A" else _TIERS.get(self.suffix)


@dataclass(frozen=True)
class FoundChip:
    """A chip, where in the table its numbers are, and what is to be said of it."""

    chip: Chip
    variant_origin: str
    warnings: tuple[str, ...] = ()


def chip_name(text: str) -> ChipName | None:
    """The chip that a text names, whatever its case and with or without `Apple`; None if it names none of Apple's."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    return ChipName(match[1].upper(), int(match[2]), (match[3] or "").capitalize(), match[4] is not None)


def find_chip(name: ChipName, gpu_cores: int | None, memory_gb: float | None = None) -> FoundChip:
    """The chip with as many GPU cores as are given, else the fewest that it is sold with, with this memory.

    Raises:
        UnknownMachineError: there is no such chip, nor an older one to take instead.
    """
    row_name, known = _row(name)
    row = table("chips")[row_name]
    at = _smallest(row["gpu"], memory_gb if known else None) if gpu_cores is None else _variant(row["gpu"], gpu_cores)
    variant = row["gpu"][at]
    chip = Chip(
        name=name.text,
        row=row_name,
        known=known,
        generation=row["generation"],
        tier=row["tier"],
        gpu_cores=gpu_cores or variant["cores"],
        bandwidth_gb_s=float(variant["bandwidth_gb_s"]),
        cpu_bf16=row["cpu_bf16"],
        neural_accelerators=row["neural_accelerators"],
    )
    return FoundChip(chip, f"data:chips/{row_name}/gpu/{at}", tuple(_warnings(chip, row)))


def as_sizes(sizes_gb: list[int]) -> str:
    return f"{listed(map(str, sizes_gb), 'or')} GB"


def _row(name: ChipName) -> tuple[str, bool]:
    if name.row in table("chips"):
        return name.row, True
    neighbour = _neighbour(name)
    if neighbour is None:
        message = f"there is no chip {quoted(name.row)}"
        raise UnknownMachineError(message, did_you_mean(name.row, table("chips")) or "mlspec machine list")
    return neighbour.row, False


def _neighbour(name: ChipName) -> ChipName | None:
    """The newest older chip of the tier; of a tier that came after the table, the base one."""
    rows = [row for text in table("chips") if (row := chip_name(text)) and row.series == name.series]
    newest = max((row.number for row in rows), default=0)
    tier = name.tier or ("base" if name.number > newest else None)
    older = [row for row in rows if row.tier == tier and row.number < name.number]
    return max(older, key=lambda row: row.number, default=None)


def _variant(variants: list[Mapping[str, Any]], gpu_cores: int) -> int:
    """The one with most cores of those that have no more than are given; the first where none has."""
    fitting = [i for i, variant in enumerate(variants) if variant["cores"] <= gpu_cores]
    return max(fitting, default=0)


def _smallest(variants: list[Mapping[str, Any]], memory_gb: float | None) -> int:
    """The first that is sold with this memory; the first of all where that isn't known."""
    fitting = (i for i, variant in enumerate(variants) if memory_gb in variant.get("memory_gb", [memory_gb]))
    return 0 if memory_gb is None else next(fitting, 0)


def _warnings(chip: Chip, row: Mapping[str, Any]) -> Iterator[str]:
    if not chip.known:
        yield f"{chip.name} is not in the table of chips: it is taken for {chip.row}, the nearest that is no better"
    elif row["confidence"] == "uncertain":
        yield f"what is known of {chip.name} is uncertain: {row['note']}"
    elif chip.gpu_cores not in (sold := [variant["cores"] for variant in row["gpu"]]):
        cores = listed(map(str, sold), "or")
        yield f"{chip.name} is sold with {cores} GPU cores, as far as is known, not with {chip.gpu_cores}"
