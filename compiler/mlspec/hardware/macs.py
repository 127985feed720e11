"""A Mac of values that each have an origin: its chip, memory, working set and cooling, and what is odd about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlspec.characters import quoted
from mlspec.hardware import named
from mlspec.hardware.chips import ChipName, FoundChip, as_sizes, chip_name, find_chip
from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.fields import Fields, machine_origins, origin, size_bytes, value
from mlspec.hardware.resident import working_set
from mlspec.hardware.tables import table
from mlspec.hardware.working_set import major
from mlspec.model.machine import Machine
from mlspec.suggest import did_you_mean

_OLDEST_MACOS = 14
"""That MLX runs on."""
_A_MAC = "name a product, a profile, or a chip with its memory: machine: {chip: Apple M2 Max, memory_gb: 64}"


@dataclass(frozen=True)
class Found:
    """A computer, and what is to be said of how it was found."""

    machine: Machine
    warnings: tuple[str, ...] = ()


def mac_of(known: Fields) -> Found:
    """The Mac of these values.

    Raises:
        UnknownMachineError: see `mac`.
    """
    name = _chip_name(known)
    known = _with_cores_as_sold(known, name)
    chip = find_chip(name, value(known, "gpu_cores"), value(known, "memory_gb"))
    full = _with_chip(known, name, chip)
    memory_bytes = _memory_bytes(full, name)
    resident = working_set(full, memory_bytes)
    machine = Machine(
        memory_bytes,
        chip.chip,
        **{key: value(full, key) for key in ("model", "product", "macos", "cpus")},
        cooling=value(full, "cooling") or "unknown",
        working_set_bytes=resident.bytes,
        reserved_bytes=size_bytes(value(full, "reserve_gb")) or 0,
        origins={**machine_origins(full), "working_set_bytes": resident.origin},
    )
    warnings = [*chip.warnings, *_warnings(full, name, memory_bytes), *filter(None, [resident.warning])]
    return Found(machine, tuple(warnings))


def _with_cores_as_sold(known: Fields, name: ChipName) -> Fields:
    """The values, and the GPU cores of the model's row where nothing else tells them: some Macs aren't sold with the
    fewest that their chip has.
    """
    model = value(known, "row")
    row = table("machines")[model] if model else {}
    if "gpu_cores" in known or "gpu_cores" not in row or row["chip"] != name.text:
        return known
    return {**known, "gpu_cores": (row["gpu_cores"], f"data:machines/{model}/gpu_cores")}


def _with_chip(known: Fields, name: ChipName, chip: FoundChip) -> Fields:
    """The values, and what the chip adds: GPU and processor, both with the fewest cores that it is sold with."""
    row = f"data:chips/{chip.chip.row}"
    full = dict(known)
    full.setdefault("gpu_cores", (chip.chip.gpu_cores, f"{chip.variant_origin}/cores"))
    full["bandwidth_gb_s"] = (chip.chip.bandwidth_gb_s, f"{chip.variant_origin}/bandwidth_gb_s")
    if name.virtual:
        full["cooling"] = ("virtual", origin(known, "chip"))
    if value(full, "cooling") != "virtual":  # such a one has only some of its host's processors
        cores = table("chips")[chip.chip.row]["cpu"][0]
        full.setdefault("cpus", (sum(map(int, cores.split("+"))), f"{row}/cpu/0"))
    return full


def _chip_name(known: Fields) -> ChipName:
    text = value(known, "chip")
    if text is None:
        model = value(known, "model")
        message = f"the chip of {quoted(model)} isn't known" if model else "the machine's chip isn't given"
        raise UnknownMachineError(message, _A_MAC)
    name = chip_name(text)
    if name is None:
        help = did_you_mean(text, table("chips")) or "a chip's name is as in Apple M2 Max; mlspec machine list has all"
        raise UnknownMachineError(f"{quoted(text)} is no Apple chip", help)
    return name


def _memory_bytes(known: Fields, name: ChipName) -> int:
    memory_bytes = size_bytes(value(known, "memory_gb"))
    if memory_bytes is not None:
        return memory_bytes
    sizes = named.sold_memory(name.row, value(known, "row"))
    help = f"it is sold with {as_sizes(sizes)}" if sizes else "give memory_gb"
    raise UnknownMachineError(f"the memory of {value(known, 'product') or name.text} isn't given", help)


def _warnings(known: Fields, name: ChipName, memory_bytes: int) -> Iterator[str]:
    model, virtual = value(known, "row"), value(known, "cooling") == "virtual"
    row = table("machines")[model] if model else {}
    if row.get("chip") not in (None, name.row):
        yield f"a {row['product']} ({model}) has {row['chip']}, as far as is known, not {name.row}"
    elif not virtual and (odd := named.check_memory(name.row, model, memory_bytes)):
        yield odd
    if virtual:
        yield "a virtual machine shares its GPU with its host: what is planned for it is no more than a guess"
    macos = value(known, "macos")
    if (version := major(macos)) is not None and version < _OLDEST_MACOS:
        yield f"MLX needs macOS {_OLDEST_MACOS} or later; this machine has {macos}"
