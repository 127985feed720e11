"""What serving needs of a computer, looked at one by one; each finding has its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from mlspec.hardware.doctor_libraries import container_tool, mlx, openblas, torch
from mlspec.hardware.doctor_linux import linux
from mlspec.hardware.doctor_mac import heat, low_power, mac
from mlspec.hardware.findings import Finding, Here

_PYTHONS = ((3, 11), (3, 13))
_OTHER = "macOS on Apple Silicon and Linux are what services run on"


def examine(here: Here) -> list[Finding]:
    """All findings, in the order in which a person wants them. What takes its time is looked at side by side."""
    looks: list[Callable[[Here], Iterator[Finding]]] = [_computer, _python, mlx, torch]
    looks += [low_power, heat] if here.is_mac else [openblas, _no_governor]
    looks.append(container_tool)
    with ThreadPoolExecutor(len(looks)) as pool:
        return [finding for found in pool.map(lambda look: list(look(here)), looks) for finding in found]


def _computer(here: Here) -> Iterator[Finding]:
    if here.is_mac:
        yield from mac(here)
    elif here.system == "linux":
        yield from linux(here)
    else:
        yield Finding("system", "problem", f"{here.system} is no system that services run on", _OTHER)


def _python(here: Here) -> Iterator[Finding]:
    version = ".".join(map(str, here.python))
    first, last = _PYTHONS
    if here.is_mac and here.processor != "arm64":
        remedy = "install a Python for arm64: this one runs under Rosetta, where MLX doesn't work"
        yield Finding("Python", "problem", f"{version} for {here.processor}", remedy)
    elif first <= here.python[:2] <= last:
        yield Finding("Python", "ok", version)
    else:
        known = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
        yield Finding("Python", "warning", f"{version}: services were tried with {known}", f"use Python {known}")


def _no_governor(here: Here) -> Iterator[Finding]:
    text = f"unavailable on {here.system}: a service goes by its own speed"
    yield Finding("heat and power", "ok", text)
