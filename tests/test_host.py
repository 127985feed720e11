"""Which target of a spec this computer serves."""

from __future__ import annotations

import pytest

from mlspec import host
from mlspec.errors import CommandError
from mlspec.model.machine import Machine
from mlspec.model.spec import Spec, TargetSpec

GIB = 2**30


def spec(*names: str) -> Spec:
    """A spec with these targets for this computer's platform."""
    platform = "macos" if host.sys.platform == "darwin" else "linux"
    arch = host._MACHINES.get(host.platform.machine()) if platform == "linux" else None
    targets = tuple(TargetSpec.model_construct(name=name, platform=platform, arch=arch) for name in names)
    return Spec.model_construct(targets=targets)


@pytest.mark.parametrize(
    ("memories_gib", "chosen"),
    [
        ({"a": None, "b": None}, "a"),
        ({"small": 0.25, "large": 0.5, "huge": 2**20}, "large"),
        ({"huge": 2**20, "unnamed": None, "small": 0.25}, "small"),
        ({"huge": 2**20, "unnamed": None}, "unnamed"),
        ({"huge": 2**20, "vast": 2**21}, "huge"),
    ],
)
def test_the_target_for_the_most_memory_that_is_here(memories_gib: dict[str, float | None], chosen: str) -> None:
    machines = {name: Machine(int(gib * GIB)) if gib else None for name, gib in memories_gib.items()}
    assert host.target_for_host(spec(*memories_gib), machines, None) == chosen


def test_the_target_that_is_asked_for() -> None:
    machines = {"small": Machine(GIB), "huge": Machine(2**20 * GIB)}
    assert host.target_for_host(spec("small", "huge"), machines, "huge") == "huge"
    with pytest.raises(CommandError, match="no target 'other'"):
        host.target_for_host(spec("small", "huge"), machines, "other")
