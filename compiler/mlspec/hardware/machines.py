"""A target's computer, from what its spec says, a profile, a product's name and the tables.

Each value remembers where it came from, for the plan's decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from mlspec.hardware import named
from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.fields import Fields, known_of, machine_origins, size_bytes, value
from mlspec.hardware.macs import Found, mac_of
from mlspec.model.machine import Machine
from mlspec.model.spec import MachineSpec
from mlspec.suggest import listed

__all__ = ["Found", "Product", "UnknownMachineError", "linux", "linux_of", "mac", "mac_of", "products"]

_ONLY_MACS_HAVE = ("product", "chip", "gpu_cores", "model", "macos")


@dataclass(frozen=True)
class Product:
    """A Mac as it is sold. `title` is what a spec may call it: `Mac Studio 2025, M4 Max, 64 GB`."""

    title: str
    machine: Machine


def mac(given: MachineSpec, pointer: str, profile: Mapping[str, Any] | None) -> Found:
    """The Mac that a target names; `pointer` is where in the spec, `profile` the parsed file of `given.profile`.

    Raises:
        UnknownMachineError: it can't be made out: no such product or chip, no memory, a profile that is none.
    """
    return mac_of(known_of(given, pointer, profile))


def linux(given: MachineSpec, pointer: str, profile: Mapping[str, Any] | None) -> Found:
    """The computer of a Linux target: memory, processors and the memory of its NVIDIA GPU.

    Raises:
        UnknownMachineError: its memory isn't given, or it is given as a Mac.
    """
    return linux_of(known_of(given, pointer, profile))


@cache
def products(macos: str | None = None) -> tuple[Product, ...]:
    """All Macs of the tables in all sizes of memory, each as a spec gets it that names the product and this macOS."""
    return tuple(Product(title, _as_sold(title, macos)) for title in named.titles())


def _as_sold(title: str, macos: str | None) -> Machine:
    machine = mac(MachineSpec(product=title, macos=macos), "", None).machine
    origins = {name: origin for name, origin in machine.origins.items() if name != "macos"}
    row = machine.origins["product"].removesuffix("/product")
    return replace(machine, origins={**origins, "memory_bytes": row})


def linux_of(known: Fields) -> Found:
    """The Linux computer of these values.

    Raises:
        UnknownMachineError: see `linux`.
    """
    foreign = [name for name in _ONLY_MACS_HAVE if name in known]
    if foreign:
        message = f"a Linux target's machine has no {listed(foreign, 'or')}"
        raise UnknownMachineError(message, "give what the service may use: machine: {memory_gb: 16, cpus: 8}")
    memory_bytes = size_bytes(value(known, "memory_gb"))
    if memory_bytes is None:
        raise UnknownMachineError("the machine's memory isn't given", "machine: {memory_gb: 16, cpus: 8}")
    machine = Machine(
        memory_bytes,
        cpus=value(known, "cpus"),
        gpu_memory_bytes=size_bytes(value(known, "gpu_memory_gb")),
        reserved_bytes=size_bytes(value(known, "reserve_gb")) or 0,
        origins=machine_origins(known),
    )
    return Found(machine)
