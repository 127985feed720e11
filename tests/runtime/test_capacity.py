"""How many requests fit into a computer that has less memory than was planned."""

from __future__ import annotations

import logging

import pytest

from mlspec.runners.mlx_lm.runtime_capacity import Fit, fit
from mlspec.runners.mlx_lm.runtime_settings import PlannedMemory
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.mlx.memory import available_bytes, reported_bytes

GIB = 1 << 30
PLANNED = PlannedMemory(fixed_bytes=17 * GIB, request_bytes=4 * GIB)
"""With 1 GiB of prompt cache and 8 requests 49 GiB."""


def fitting(available: int | None, planned: PlannedMemory = PLANNED, prompt_cache: int = GIB) -> Fit:
    return fit(planned, 8, prompt_cache, available)


@pytest.mark.parametrize("available", [None, 49 * GIB, 60 * GIB])
def test_what_fits_is_left_as_planned(available: int | None, caplog: pytest.LogCaptureFixture) -> None:
    assert fitting(available) == Fit(8, GIB)
    assert not caplog.records


@pytest.mark.parametrize("planned", [PlannedMemory(), PlannedMemory(fixed_bytes=GIB), PlannedMemory(request_bytes=GIB)])
def test_an_older_plan_is_taken_as_it_is(planned: PlannedMemory) -> None:
    assert fitting(1, planned) == Fit(8, GIB)


def test_the_prompt_cache_goes_first(caplog: pytest.LogCaptureFixture) -> None:
    found = fitting(48 * GIB + GIB // 4)
    assert (found.concurrency, found.prompt_cache_bytes) == (8, GIB // 4)
    assert (fitting(48 * GIB).concurrency, fitting(48 * GIB).prompt_cache_bytes) == (8, 0)
    assert "0.2 GiB of prefixes are kept, not 1.0 GiB" in found.reason
    assert "prefixes" not in fitting(40 * GIB, prompt_cache=0).reason
    assert caplog.records[0].levelno == logging.WARNING


def test_then_the_requests_that_do_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    assert [fitting(gib * GIB).concurrency for gib in (47, 44, 43, 28, 24, 23, 20)] == [7, 7, 6, 3, 2, 1, 1]
    found = fitting(26 * GIB)
    assert found == Fit(
        2, 0, "this computer gives 26.0 GiB, 49.0 GiB were planned; 0.0 GiB of prefixes are kept, not 1.0 GiB"
    )
    assert f"2 of 8 requests at once: {found.reason}" in caplog.text


def test_not_even_one_is_refused_with_the_numbers() -> None:
    with pytest.raises(ServiceError) as refused:
        fitting(20 * GIB - 1)
    assert (refused.value.code, refused.value.status) == ("memory_too_small", 503)
    for told in ("needs 20.0 GiB", f"({20 * GIB} bytes)", f"({20 * GIB - 1} bytes)"):
        assert told in refused.value.message


def test_a_model_without_a_growing_cache_fits_or_does_not() -> None:
    states = PlannedMemory(fixed_bytes=17 * GIB, request_bytes=0)
    assert fitting(16 * GIB, states) == Fit(
        8, 0, "this computer gives 16.0 GiB, 17.0 GiB were planned; 0.0 GiB of prefixes are kept, not 1.0 GiB"
    )
    with pytest.raises(ServiceError):
        fitting(15 * GIB, states)


def test_the_planned_machine_itself_has_room_for_all_that_was_planned() -> None:
    """The planner's budget is the working set less 5 %, 256 MiB at least; a plan may use it to the last byte."""
    for working_set in (12713115648, 2 * GIB, 51539607552):
        budget = working_set - max(int(working_set * 0.05), 256 << 20)
        available = available_bytes(reported_bytes({"max_recommended_working_set_size": working_set}))
        caches = budget // 2 - budget // 2 % 8 + 1
        planned = PlannedMemory(fixed_bytes=budget - caches, request_bytes=-(-caches // 8))
        assert fitting(available, planned) == Fit(8, GIB)
