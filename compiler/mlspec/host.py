"""Which target this computer can serve. Only `serve` and `test` ask."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from mlspec.errors import CommandError
from mlspec.model.machine import Machine
from mlspec.model.spec import Spec, TargetSpec

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_NVIDIA = Path("/dev/nvidiactl")


def target_for_host(spec: Spec, machines: Mapping[str, Machine | None], wanted: str | None) -> str:
    """The name of the target that fits this computer best, or `wanted` if that one fits.

    Of several the one for the most memory that is here, then the first that names no machine, then the one for the
    least: the service takes no more than there is.

    Raises:
        CommandError: none fits, or `wanted` doesn't.
    """
    targets = [t for t in spec.targets if wanted in (None, t.name)]
    fitting = [t.name for t in targets if _fits(t)]
    if fitting:
        return min(fitting, key=lambda name: _distance(machines.get(name), _memory_bytes()))
    have = ", ".join(f"{t.name} ({_described(t)})" for t in spec.targets)
    if not targets:
        raise CommandError("no-such-target", f"there is no target '{wanted}' in this spec", f"it has {have}")
    message = f"no target of this spec fits this computer ({_host()}); it has {have}"
    raise CommandError("no-target-here", message, f"add a target: {_suggestion()}")


def _distance(machine: Machine | None, here_bytes: int) -> tuple[int, int]:
    if machine is None:
        return 1, 0
    # Some of the memory is never told of: firmware and kernel keep it.
    fits = machine.memory_bytes <= here_bytes * 1.1
    return (0, -machine.memory_bytes) if fits else (2, machine.memory_bytes)


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _fits(target: TargetSpec) -> bool:
    if target.platform == "macos":
        return sys.platform == "darwin" and platform.machine() == "arm64"
    same = sys.platform == "linux" and (target.arch or "amd64") == _MACHINES.get(platform.machine())
    return same and (target.accelerator in (None, "cpu") or _NVIDIA.exists())


def _described(target: TargetSpec) -> str:
    if target.platform == "macos":
        return "macos"
    return f"linux {target.arch or 'amd64'} {target.accelerator or 'cpu'}"


def _host() -> str:
    name = "macos" if sys.platform == "darwin" else sys.platform
    return f"{name} {_MACHINES.get(platform.machine(), platform.machine())}"


def _suggestion() -> str:
    if sys.platform == "darwin":
        return "{name: mac, platform: macos}"
    return f"{{name: here, platform: linux, accelerator: cpu, arch: {_MACHINES.get(platform.machine(), 'amd64')}}}"
