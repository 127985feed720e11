"""Memory limits: the minimum of the plan and of what the computer reports."""

from __future__ import annotations

import logging
import os

import pytest

from mlspec.runners.mlx_lm.runtime_memory import SYSTEM_MEMORY, WORKING_SET, reported_bytes, taken, tell
from mlspec.runners.mlx_lm.runtime_settings import MemoryLimits

GIB = 1 << 30
WORKING_SET_BYTES = 12713115648
M2 = {
    "device_name": "Apple M2",
    "architecture": "applegpu_g14g",
    "memory_size": 17179869184,
    "max_recommended_working_set_size": WORKING_SET_BYTES,
    "max_buffer_length": 9534832640,
    "resource_limit": 499000,
}
CUDA = {"device_name": "NVIDIA H200", "total_memory": 150754820096, "free_memory": 1, "compute_capability_major": 9}
PLAN = MemoryLimits(11 * GIB, 2 * GIB, 10 * GIB)


def test_a_computer_as_planned_gives_what_is_planned() -> None:
    assert taken(PLAN, reported_bytes(M2)) == PLAN


def test_one_with_less_gives_less(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlspec.mlx_lm")
    planned = MemoryLimits(40 * GIB, 2 * GIB, 36 * GIB)
    reported = reported_bytes(M2)
    limits = taken(planned, reported)
    assert limits == MemoryLimits(WORKING_SET_BYTES, 2 * GIB, WORKING_SET_BYTES)
    tell(planned, limits, reported)
    assert [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records] == [
        ("WARNING", "memory_limit_bytes"),
        ("INFO", "cache_limit_bytes"),
        ("WARNING", "wired_limit_bytes"),
    ]
    assert f"{40 * GIB} planned, 12713115648 taken" in caplog.text


def test_what_is_not_planned_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlspec.mlx_lm")
    assert taken(MemoryLimits(), reported_bytes(M2)) == MemoryLimits()
    tell(MemoryLimits(), MemoryLimits(), {})
    assert not caplog.records


def test_without_a_working_set_nothing_is_wired(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mlspec.mlx_lm")
    limits = taken(PLAN, reported_bytes(CUDA))
    assert limits == MemoryLimits(11 * GIB, 2 * GIB, None)
    tell(PLAN, limits, reported_bytes(CUDA))
    assert "there is no such limit on this computer" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_what_devices_report() -> None:
    assert set(reported_bytes(M2)) == {WORKING_SET, "memory_size"}
    assert reported_bytes(CUDA) == {"total_memory": 150754820096}
    (name, size) = next(iter(reported_bytes({"architecture": "x86_64", "device_name": "AMD EPYC"}).items()))
    assert name == SYSTEM_MEMORY
    assert GIB // 4 < size <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
