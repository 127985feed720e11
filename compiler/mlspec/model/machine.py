"""The computer that a service runs on: declared, captured or detected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Tier = Literal["base", "pro", "max", "ultra", "phone"]
Cooling = Literal["passive", "laptop", "desktop", "virtual", "unknown"]


@dataclass(frozen=True)
class Chip:
    """An Apple chip as one machine has it.

    `bandwidth_gb_s` is memory bandwidth in 10^9 bytes a second; `row` names the row of the chip table that was taken:
    another chip's, the nearest that is no better, where `known` is false.
    """

    name: str
    row: str
    known: bool
    generation: int
    tier: Tier
    gpu_cores: int
    bandwidth_gb_s: float
    cpu_bf16: bool
    neural_accelerators: bool


@dataclass(frozen=True)
class Machine:
    """What a plan needs to know of a computer. Sizes in bytes.

    `working_set_bytes` is what Metal recommends to keep resident (`recommendedMaxWorkingSetSize`), measured or by the
    rule of its memory and macOS; None where there is no Metal. `reserved_bytes` the spec keeps for other programs.
    `gpu_memory_bytes` is an NVIDIA GPU's own. `origins` names where each value came from, by this class's own field
    names (`working_set_bytes: data:working_set/macos-26/64`): what decisions give as their inputs.
    """

    memory_bytes: int
    chip: Chip | None = None
    model: str | None = None
    product: str | None = None
    macos: str | None = None
    cooling: Cooling = "unknown"
    cpus: int | None = None
    working_set_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    reserved_bytes: int = 0
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What a person calls it: `Mac Studio 2023, M2 Max, 64 GB`."""
        gib = f"{max(0.1, self.memory_bytes / 2**30):.1f}".removesuffix(".0") + " GB"
        chip = self.chip.name.removeprefix("Apple ") if self.chip else ""
        return ", ".join(part for part in (self.product or "", chip, gib) if part)
