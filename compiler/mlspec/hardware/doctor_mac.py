"""A Mac: chip, memory and what the GPU may have of it, macOS, heat and power."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlspec.hardware.detect import mac_fields, this_mac
from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.fields import with_row
from mlspec.hardware.findings import Finding, Here
from mlspec.hardware.machines import mac_of
from mlspec.model.machine import Machine

_GIB = 2**30
_NOTIFYUTIL = ("/usr/bin/notifyutil", "-g", "com.apple.system.thermalpressurelevel")
_PMSET = ("/usr/bin/pmset", "-g")
_PATIENCE_S = 10.0
_LEVELS = ("nominal", "moderate", "heavy", "trapping", "sleeping")
_HEAVY = 2
_MLX_NEEDS, _WIRED_LIMIT_NEEDS, _MATRIX_UNITS_NEED = (14,), (15,), (26, 2)


def mac(here: Here) -> Iterator[Finding]:
    try:
        found = mac_of(with_row(mac_fields(this_mac(here.ask))))
    except UnknownMachineError as problem:
        yield Finding("chip", "problem", str(problem), problem.help)
        return
    yield _chip(found.machine)
    yield _memory(found.machine)
    yield from (Finding("machine", "warning", warning, _remedy(warning)) for warning in found.warnings)
    yield _macos(found.machine)


def low_power(here: Here) -> Iterator[Finding]:
    answer = here.ask(_PMSET, _PATIENCE_S)
    mode = re.search(r"^\s*(?:low)?powermode\s+(\d)\s*$", answer.output, re.MULTILINE | re.ASCII)
    if mode is None:
        yield Finding("power", "ok", "unavailable: pmset doesn't say")
    elif mode[1] == "1":
        yield Finding("power", "warning", "low-power mode is on: the GPU is slowed", "sudo pmset -a lowpowermode 0")
    else:
        yield Finding("power", "ok", "low-power mode is off")


def heat(here: Here) -> Iterator[Finding]:
    answer = here.ask(_NOTIFYUTIL, _PATIENCE_S)
    level = re.search(r"(?:^|\s)([0-4])\s*$", answer.output, re.ASCII)
    if not answer.fine or level is None:
        yield Finding("heat", "ok", "unavailable: notifyutil doesn't say")
        return
    text = f"thermal pressure is {_LEVELS[int(level[1])]}"
    if int(level[1]) < _HEAVY:
        yield Finding("heat", "ok", text)
    else:
        yield Finding("heat", "warning", f"{text}: the GPU is slowed", "let it cool down before measuring anything")


def _chip(machine: Machine) -> Finding:
    chip = machine.chip
    if chip is None:
        return Finding("chip", "problem", "no Apple chip was found", "macOS targets need Apple Silicon")
    product = f", {machine.product}" if machine.product else ""
    text = f"{chip.name}{product}: {chip.gpu_cores} GPU cores, {chip.bandwidth_gb_s:g} GB/s, cooling {machine.cooling}"
    return Finding("chip", "ok", text)


def _memory(machine: Machine) -> Finding:
    resident = (machine.working_set_bytes or 0) / _GIB
    return Finding("memory", "ok", f"{machine.memory_bytes / _GIB:g} GB, of which the GPU may keep {resident:.1f} GiB")


def _remedy(warning: str) -> str:
    if warning.startswith("iogpu"):
        return "sudo sysctl iogpu.wired_limit_mb=0 undoes it; a profile captured now plans with it"
    return "mlspec machine show has what is taken for it"


def _macos(machine: Machine) -> Finding:
    version = tuple(map(int, (machine.macos or "0").split(".")))
    if machine.macos is None:
        return Finding("macOS", "warning", "its version isn't known", "MLX needs macOS 14 or later")
    if version < _MLX_NEEDS:
        return Finding("macOS", "problem", f"{machine.macos}: MLX needs 14 or later", "update macOS")
    if machine.chip and machine.chip.neural_accelerators and version < _MATRIX_UNITS_NEED:
        text = f"{machine.macos}: this chip's matrix units are used from 26.2 on"
        return Finding("macOS", "warning", text, "update macOS: prompts are then read several times as fast")
    if version < _WIRED_LIMIT_NEEDS:
        text = f"{machine.macos}: weights can be kept resident from 15 on"
        return Finding("macOS", "warning", text, "update macOS")
    return Finding("macOS", "ok", machine.macos)
