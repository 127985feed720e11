"""Which target this computer can serve. Only `serve` and `test` ask."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from mlspec.errors import CommandError
from mlspec.model.spec import Spec, TargetSpec

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_NVIDIA = Path("/dev/nvidiactl")


def target_for_host(spec: Spec, wanted: str | None) -> str:
    """The name of the first target that fits this computer, or `wanted` if that one does.

    Raises:
        CommandError: none fits, or `wanted` doesn't.
    """
    targets = [t for t in spec.targets if wanted in (None, t.name)]
    fitting = next((t.name for t in targets if _fits(t)), None)
    if fitting is not None:
        return fitting
    have = ", ".join(f"{t.name} ({_described(t)})" for t in spec.targets)
    if not targets:
        raise CommandError("no-such-target", f"there is no target '{wanted}' in this spec", f"it has {have}")
    message = f"no target of this spec fits this computer ({_host()}); it has {have}"
    raise CommandError("no-target-here", message, f"add a target: {_suggestion()}")


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
