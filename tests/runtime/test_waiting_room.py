"""The bounded queue."""

from __future__ import annotations

import threading

import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.protocol import Stats
from mlspec_runtime.waiting_room import WaitingRoom
from runtime.services import wait_until


def make(running: int = 2, waiting: int = 2) -> tuple[WaitingRoom[str], list[Stats]]:
    seen: list[Stats] = []
    return WaitingRoom[str](running=running, waiting=waiting, watch=seen.append), seen


def test_running_and_waiting_are_bounded_together() -> None:
    room, seen = make()
    for job in "abcd":
        room.enter(job)
    with pytest.raises(ServiceError) as full:
        room.enter("e")
    assert (full.value.status, full.value.code) == (429, "queue_full")
    told = "4 requests are in, and there is room for 4 (2 computed at once, 2 waiting)"
    assert full.value.message == told
    room.enter("probe", always=True)
    assert room.begin(["a", "b", "gone"]) == ["a", "b"]
    assert room.stats() == seen[-1] == Stats(waiting=3, running=2)
    room.leave("a", took_s=10)
    assert room.leave_if_waiting("c")
    assert not room.leave_if_waiting("b")
    room.enter("e")
    assert room.waiting() == ("d", "probe", "e")


def test_who_would_wait_in_vain_is_refused() -> None:
    room = WaitingRoom[int](running=2, waiting=100, watch=lambda stats: None, timeout_s=10)
    for job in range(40):
        room.enter(job)
        room.leave(job, took_s=6)
    # The third begins after one of these has ended, 3 s from now as a rule, and takes another 6.
    for job in range(3):
        room.enter(job)
    with pytest.raises(ServiceError) as slow:
        room.enter(3)
    assert (slow.value.status, slow.value.code) == (429, "queue_slow")
    assert slow.value.retry_after_s is not None
    room.leave(0)
    room.enter(3)


def test_other_bounds_keep_who_is_in() -> None:
    room, _ = make()
    for job in "abcd":
        room.enter(job)
    room.begin(["a", "b"])
    room.resize(running=1, waiting=2)
    for done in "ab":
        with pytest.raises(ServiceError, match="room for 3"):
            room.enter("e")
        room.leave(done)
    assert room.waiting() == ("c", "d")
    room.enter("e")
    room.resize(running=3, waiting=2)
    room.enter("f")
    room.enter("g")
    with pytest.raises(ServiceError):
        room.enter("h")


def test_the_time_to_come_again_follows_what_requests_take() -> None:
    room, _ = make(running=1, waiting=1)
    for _ in range(40):
        room.enter("a")
        room.begin(["a"])
        room.leave("a", took_s=7.0)
    room.enter("a")
    room.enter("b")
    with pytest.raises(ServiceError) as full:
        room.enter("c")
    assert full.value.retry_after_s == pytest.approx(21, abs=1)
    assert full.value.headers() == {"Retry-After": "21"}


def test_wait_wakes_for_a_job_and_for_the_end() -> None:
    room, _ = make()
    woken: list[bool] = []

    def wait_twice() -> None:
        woken.append(room.wait())
        room.begin(room.waiting())
        woken.append(room.wait())

    thread = threading.Thread(target=wait_twice)
    thread.start()
    room.enter("a")
    wait_until(lambda: woken == [True])
    room.close(ServiceError("shutting_down", "over", 503))
    thread.join(5)
    assert woken == [True, False]
    assert room.closed


def test_a_closed_room_says_why() -> None:
    room, _ = make()
    room.enter("a")
    room.enter("b")
    room.begin(["b"])
    assert room.close(ServiceError("engine_dead", "dead", 503)) == ["b", "a"]
    assert room.close(ServiceError("shutting_down", "over", 503)) == []
    assert not room.wait()
    for _ in range(2):
        with pytest.raises(ServiceError, match="dead"):
            room.enter("c")
    assert room.stats() == Stats(0, 0)
