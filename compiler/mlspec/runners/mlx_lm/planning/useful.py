"""How many requests at once are of use on a machine: more only make each of them slower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlspec.hardware.budget import origin
from mlspec.model.machine import Cooling, Machine
from mlspec.model.target import Target


@dataclass(frozen=True)
class Useful:
    """`concurrency` requests at once, with the reason and where that came from."""

    concurrency: int
    reason: str
    inputs: tuple[str, ...] = ()


UNKNOWN = Useful(8, "one batch: as many as mlx_lm takes in at once (prefill_batch_size)")
LARGE_CHIPS = Useful(16, "a Max or Ultra chip on a desk has compute to spare while it reads the weights once for all")
ONE_BY_ONE = Useful(4, "with a quantized cache mlx_lm computes each request by itself: more at once gain nothing")

COOLED: Mapping[Cooling, Useful] = {
    "passive": Useful(4, "without a fan, more at once only make heat, and the chip slows down"),
    "laptop": Useful(8, "a laptop's fan keeps up with one batch of mlx_lm (prefill_batch_size)"),
    "desktop": Useful(8, "one batch: as many as mlx_lm takes in at once (prefill_batch_size)"),
    "virtual": Useful(4, "a virtual machine shares its GPU with its host"),
    "unknown": UNKNOWN,
}

PER_CPU = 4
"""Measured with a 135M model in float32 and OpenBLAS: two cores make 6 to 9 tokens a second of one request, 44 to 62 of
eight at once."""


def useful(target: Target, kv_bits: int | None) -> Useful:
    """The concurrency that `auto` takes where memory allows it."""
    found = _of(target)
    return ONE_BY_ONE if kv_bits is not None and found.concurrency > ONE_BY_ONE.concurrency else found


def _of(target: Target) -> Useful:
    machine = target.machine
    if machine is None:
        return UNKNOWN
    if target.accelerator == "cpu":
        return _on_cpus(machine)
    return _on_a_mac(machine) if target.accelerator == "metal" else UNKNOWN


def _on_cpus(machine: Machine) -> Useful:
    if machine.cpus is None:
        return UNKNOWN
    count = min(UNKNOWN.concurrency, PER_CPU * machine.cpus)
    cores = "core" if machine.cpus == 1 else "cores"
    return Useful(count, f"{machine.cpus} {cores} have use for {count} at once", origin(machine, "cpus"))


def _on_a_mac(machine: Machine) -> Useful:
    if machine.cooling == "desktop" and machine.chip is not None and machine.chip.tier in ("max", "ultra"):
        return Useful(LARGE_CHIPS.concurrency, LARGE_CHIPS.reason, origin(machine, "cooling", "chip"))
    row = COOLED[machine.cooling]
    return Useful(row.concurrency, row.reason, origin(machine, "cooling"))
