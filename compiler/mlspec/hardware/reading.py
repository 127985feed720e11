"""What the commands of a Mac say of it, put together and made a profile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mlspec.hardware.chips import chip_name
from mlspec.hardware.errors import UnreadableError

_GIB = 2**30
_SAME = ("chip", "model", "memory_bytes")
"""What can't differ between two commands that were run on one computer."""


@dataclass(frozen=True)
class Reading:
    """What one command says; None or empty is what it doesn't say. `cpu_cores` counts them by speed, fastest first."""

    chip: str | None = None
    model: str | None = None
    memory_bytes: int | None = None
    cpus: int | None = None
    cpu_cores: tuple[int, ...] = field(default=())
    gpu_cores: int | None = None
    macos: str | None = None
    working_set_bytes: int | None = None
    max_buffer_bytes: int | None = None
    wired_limit_mb: int | None = None


def combined(said: Mapping[str, Reading]) -> Reading:
    """What several commands say together; the first one counts. The keys name the commands.

    Raises:
        UnreadableError: they speak of different computers.
    """
    found: dict[str, tuple[str, Any]] = {}
    for source, reading in said.items():
        for name, value in _values(reading):
            first, known = found.setdefault(name, (source, value))
            if name in _SAME and value != known:
                message = f"{first} says {known}, {source} says {value}: they are from different computers"
                raise UnreadableError(message, "record all of them on one Mac")
    return Reading(**{name: value for name, (_, value) in found.items()})


def matching(readings: Iterable[Reading], known: Reading) -> tuple[Reading, ...]:
    """Those of several devices that can be of the computer of which something is known already."""
    return tuple(reading for reading in readings if _agrees(reading, known))


def profile_of(reading: Reading) -> dict[str, Any]:
    """The fields of the profile.

    Raises:
        UnreadableError: there is no chip or no memory in it.
    """
    if reading.chip is None or reading.memory_bytes is None:
        lacking = "chip" if reading.chip is None else "memory"
        where = "machdep.cpu.brand_string" if reading.chip is None else "hw.memsize"
        raise UnreadableError(f"nothing in the output names the Mac's {lacking}", f"record sysctl {where}, too")
    return {
        "chip": reading.chip,
        "memory_gb": _gb(reading.memory_bytes),
        "gpu_cores": reading.gpu_cores,
        "cpus": reading.cpus,
        "cpu_cores": list(reading.cpu_cores) or None,
        "model": reading.model,
        "macos": reading.macos,
        "working_set_bytes": reading.working_set_bytes,
        "max_buffer_bytes": reading.max_buffer_bytes,
        "wired_limit_mb": reading.wired_limit_mb or None,
    }


def apple_chip(text: object) -> str | None:
    """The chip's name as the tables write it.

    Raises:
        UnreadableError: it is another maker's, or hides behind Rosetta.
    """
    if not isinstance(text, str):
        return None
    lowered = text.lower()
    if lowered.startswith("virtualapple"):
        message = "the output was recorded by a program for Intel (under Rosetta): it doesn't show the chip"
        raise UnreadableError(message, "record it in a terminal and with a Python for arm64")
    if "intel" in lowered or "amd" in lowered:
        message = "this is no Mac with Apple Silicon: its processor is Intel's or AMD's"
        raise UnreadableError(message, "macOS targets need an M chip; for this computer write a Linux target")
    name = chip_name(text)
    return name.text if name else None


def _values(reading: Reading) -> Iterator[tuple[str, Any]]:
    for each in fields(reading):
        value = getattr(reading, each.name)
        if value not in (None, ()):
            yield each.name, value


def _agrees(reading: Reading, known: Reading) -> bool:
    pairs = [(getattr(reading, name), getattr(known, name)) for name in _SAME]
    return all(own is None or other is None or own == other for own, other in pairs)


def _gb(memory_bytes: int) -> float:
    whole, rest = divmod(memory_bytes, _GIB)
    return memory_bytes / _GIB if rest else whole
