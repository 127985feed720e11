"""Memory limits: the minimum of the plan and of what the computer reports."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path

import pytest

from mlspec.runners.mlx_lm.runtime_settings import PlannedMemory
from mlspec_runtime.mlx.cgroup import system_bytes
from mlspec_runtime.mlx.memory import (
    MEMORY,
    SYSTEM_MEMORY,
    WORKING_SET,
    MemoryLimits,
    available_bytes,
    reported_bytes,
    taken,
    tell,
)

MIB, GIB = 1 << 20, 1 << 30
WORKING_SET_BYTES = 12713115648
AVAILABLE_BYTES = WORKING_SET_BYTES - 635655782
M2 = {
    "device_name": "Apple M2",
    "architecture": "applegpu_g14g",
    "memory_size": 17179869184,
    "max_recommended_working_set_size": WORKING_SET_BYTES,
    "max_buffer_length": 9534832640,
    "resource_limit": 499000,
}
CUDA = {"device_name": "NVIDIA H200", "total_memory": 150754820096, "free_memory": 1, "compute_capability_major": 9}
PLAN = MemoryLimits(11 * GIB, GIB // 2, 10 * GIB)


def test_a_computer_as_planned_gives_what_is_planned() -> None:
    assert taken(PLAN, reported_bytes(M2)) == PLAN


def test_one_with_less_gives_less(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlspec.mlx")
    planned = PlannedMemory(40 * GIB, 600 * MIB, 36 * GIB, fixed_bytes=1, request_bytes=1)
    reported = reported_bytes(M2)
    limits = taken(planned, reported)
    assert limits == MemoryLimits(AVAILABLE_BYTES, 600 * MIB, AVAILABLE_BYTES)
    tell(planned, limits, reported)
    assert [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records] == [
        ("WARNING", "memory_limit_bytes"),
        ("INFO", "cache_limit_bytes"),
        ("WARNING", "wired_limit_bytes"),
    ]
    assert f"{40 * GIB} planned, {AVAILABLE_BYTES} taken" in caplog.text


@pytest.mark.parametrize("memory", [None, GIB, 12 * GIB, 1 << 50])
@pytest.mark.parametrize("cache", [None, GIB, 1 << 50])
@pytest.mark.parametrize("working_set", [GIB // 8, 2 * GIB, WORKING_SET_BYTES, 400 * GIB])
def test_memory_and_cache_together_stay_below_a_working_set(
    memory: int | None, cache: int | None, working_set: int
) -> None:
    mac = {**M2, WORKING_SET: working_set, "memory_size": 2 * working_set}
    limits = taken(MemoryLimits(memory, cache, None), reported_bytes(mac))
    assert limits.memory_limit_bytes is not None
    assert limits.cache_limit_bytes is not None
    assert limits.memory_limit_bytes + limits.cache_limit_bytes <= working_set
    assert limits.memory_limit_bytes <= max(0, working_set - 256 * MIB)


def test_a_raised_working_set_leaves_the_system_something() -> None:
    """`iogpu.wired_limit_mb` lets a user raise it to all there is."""
    raised = reported_bytes({**M2, WORKING_SET: 17179869184})
    ceiling = int(0.95 * 17179869184)
    assert available_bytes(raised) == ceiling - int(0.05 * ceiling)


def test_without_a_plan_a_mac_gets_limits_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlspec.mlx")
    reported = reported_bytes(M2)
    limits = taken(MemoryLimits(), reported)
    assert limits == MemoryLimits(AVAILABLE_BYTES, int(WORKING_SET_BYTES * 0.05), None)
    tell(MemoryLimits(), limits, reported)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert f"memory_limit_bytes: {AVAILABLE_BYTES}, as nothing is planned" in caplog.text
    large = taken(MemoryLimits(), {WORKING_SET: 400 * GIB})
    assert large.cache_limit_bytes == GIB


def test_without_a_plan_a_linux_cpu_bounds_the_cache_alone() -> None:
    assert taken(MemoryLimits(), {SYSTEM_MEMORY: 16 * GIB}) == MemoryLimits(None, GIB, None)
    assert taken(MemoryLimits(), {SYSTEM_MEMORY: GIB // 2}) == MemoryLimits(None, GIB // 2, None)
    assert taken(MemoryLimits(), reported_bytes(CUDA)) == MemoryLimits()


def test_no_wired_memory_is_a_limit_too() -> None:
    """macOS before 15 wires nothing: 0 is planned, and mlx_lm's own limit is not to stay."""
    assert taken(MemoryLimits(GIB, 0, 0), reported_bytes(M2)).wired_limit_bytes == 0


def test_without_a_working_set_nothing_is_wired(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlspec.mlx")
    limits = taken(PLAN, reported_bytes(CUDA))
    assert limits == MemoryLimits(11 * GIB, GIB // 2, None)
    tell(PLAN, limits, reported_bytes(CUDA))
    assert "there is no such limit on this computer" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_what_is_not_known_changes_nothing() -> None:
    assert available_bytes({}) is None
    assert taken(PLAN, {}) == MemoryLimits(11 * GIB, GIB // 2, None)
    assert available_bytes({SYSTEM_MEMORY: 3 * GIB}) == 3 * GIB


def test_what_devices_report() -> None:
    assert set(reported_bytes(M2)) == {WORKING_SET, "memory_size"}
    assert reported_bytes(CUDA) == {"total_memory": 150754820096}
    nothing = dict.fromkeys((WORKING_SET, *MEMORY), 0)
    for device in ({"architecture": "x86_64", "device_name": "AMD EPYC"}, nothing):
        (name, size) = next(iter(reported_bytes(device).items()))
        assert name == SYSTEM_MEMORY
        assert GIB // 4 < size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


NO_LIMIT_V1 = "9223372036854771712\n"
V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{64 * MIB}\n"}, 64),
        ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/memory.max": f"{32 * MIB}\n", f"{V2}/a/b/memory.max": "max\n"}, 32),
        # A container that sees the host's path of a group that is its root.
        ({"proc/self/cgroup": "0::/../x\n", f"{V2}/memory.max": f"{48 * MIB}\n"}, 48),
        ({f"{V2}/memory.max": f"{48 * MIB}\n"}, 48),
        ({"proc/self/cgroup": "5:cpu,memory:/d\n0::/\n", f"{V1}/memory.limit_in_bytes": f"{40 * MIB}\n"}, 40),
        (
            {
                "proc/self/cgroup": "5:cpu,memory:/d\n0::/\n",
                f"{V1}/memory.limit_in_bytes": NO_LIMIT_V1,
                f"{V1}/d/memory.limit_in_bytes": f"{24 * MIB}\n",
            },
            24,
        ),
        ({"proc/self/cgroup": "4:memory:/\n", f"{V1}/memory.limit_in_bytes": NO_LIMIT_V1}, None),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "4:memory:/\n", f"{V1}/memory.limit_in_bytes": "rubbish"}, None),
        ({"proc/self/cgroup": "rubbish\n::\n"}, None),
        ({}, None),
    ],
    ids=itertools.count(),
)
def test_limits_of_control_groups(files: dict[str, str], mib: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    system = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert system_bytes(tmp_path) == (system if mib is None else mib * MIB)
