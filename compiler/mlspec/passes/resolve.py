"""resolve: one value for each target, with the defaults that depend on its platform filled in."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.model.facts import Facts, Located
from mlspec.model.machine import Machine
from mlspec.model.plan import Resolved
from mlspec.model.spec import Accelerator, Arch, Platform, Spec, TargetSpec
from mlspec.model.target import Target

_DEFAULTS: dict[Platform, tuple[Accelerator, Arch]] = {"macos": ("metal", "arm64"), "linux": ("cpu", "amd64")}


def resolve(
    spec: Spec,
    facts: Facts,
    located: tuple[Located, ...],
    machines: Mapping[str, Machine | None],
) -> tuple[Resolved, ...]:
    """The spec for each target whose machine is given, if only as None."""
    targets = (_target(t, machines[t.name]) for t in spec.targets if t.name in machines)
    return tuple(Resolved(spec, facts, located, target) for target in targets)


def _target(given: TargetSpec, machine: Machine | None) -> Target:
    accelerator, arch = _DEFAULTS[given.platform]
    return Target(
        given.name, given.platform, given.accelerator or accelerator, given.arch or arch, given.python, machine
    )
