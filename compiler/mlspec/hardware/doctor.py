"""What serving needs of a computer, looked at one by one; each finding has its remedy."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from mlspec.hardware.doctor_libraries import container_tool, mlx, openblas, torch
from mlspec.hardware.doctor_linux import linux
from mlspec.hardware.doctor_mac import heat, low_power, mac
from mlspec.hardware.findings import Finding, Here

_PYTHONS = ((3, 11), (3, 13))
_OTHER = "macOS on Apple Silicon and Linux are what services run on"
NAME_COLUMNS = len("heat and power")
"""As wide as the longest name of a finding."""


def examine(here: Here) -> Generator[Finding, None, None]:
    """All findings, each as soon as those before it are known; what may take long is looked at last, side by side."""
    looks: list[Callable[[Here], Iterator[Finding]]] = [_computer, _python]
    looks += [low_power, heat] if here.is_mac else [openblas, _no_governor]
    looks += [container_tool, mlx, torch]
    pool = ThreadPoolExecutor(len(looks))
    try:
        for found in pool.map(lambda look: list(look(here)), looks):
            yield from found
    finally:
        # After Ctrl-C no program is left behind, and nobody waits for what one would have said.
        here.stop()
        pool.shutdown(cancel_futures=True)


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
    system = here.system.capitalize()
    yield Finding("heat and power", "ok", f"not governed on {system}: a service pays no heed to them there")
