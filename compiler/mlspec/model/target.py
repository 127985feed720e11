"""The place where a spec is to run."""

from __future__ import annotations

from dataclasses import dataclass

from mlspec.model.machine import Machine
from mlspec.model.spec import Accelerator, Arch, Platform, PythonVersion


@dataclass(frozen=True)
class Target:
    """A target with its defaults filled in. Without a `machine` nothing is known of its memory or its speed."""

    name: str
    platform: Platform
    accelerator: Accelerator
    arch: Arch
    python: PythonVersion
    machine: Machine | None = None

    @property
    def constraint_set(self) -> str:
        """The name of the tested set of requirements: `macos`, `linux-cpu`, `linux-cuda12` or `linux-cuda13`."""
        return "macos" if self.platform == "macos" else f"linux-{self.accelerator}"
