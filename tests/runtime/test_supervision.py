"""Faults that only a new process mends, and the pauses between processes that end early."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.starts import EARLY_S, FIRST_PAUSE_S, MAX_PAUSE_S, Starts, plan_digest
from mlspec_runtime.supervision import Supervision
from runtime.services import running, wait_until

MORTAL = {"runner": {"name": "mortal", "module": "runtime.mortal_runner", "settings": {}}}
DEAD = ServiceError("engine_dead", "the thread has ended", 503)


class Watched:
    """What a supervision is given, and what it did."""

    def __init__(self, *answers: ServiceError | Exception | None) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.told: list[ServiceError] = []
        self.ended = threading.Event()

    def fault(self) -> ServiceError | None:
        self.asked += 1
        answer = self._answers.pop(0) if self._answers else None
        if isinstance(answer, Exception) and not isinstance(answer, ServiceError):
            raise answer
        return answer

    def supervision(self, linger_s: float = 0.01) -> Supervision:
        return Supervision(self.fault, self.told.append, end=self.ended.set, poll_s=0.005, linger_s=linger_s)


def test_a_fault_is_told_once_and_then_the_process_ends() -> None:
    watched = Watched(None, None, DEAD)
    watched.supervision().start()
    assert watched.ended.wait(10)
    assert watched.told == [DEAD]
    assert watched.asked == 3


def test_a_question_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(RuntimeError("no answer"), DEAD)
    watched.supervision().start()
    assert watched.ended.wait(10)
    assert "no answer" in caplog.text


def test_without_a_fault_nothing_ends() -> None:
    watched = Watched()
    supervision = watched.supervision()
    supervision.start()
    wait_until(lambda: watched.asked > 5)
    supervision.stop()
    assert not watched.told
    assert not watched.ended.is_set()


def test_a_service_that_is_ended_meanwhile_is_not_ended_twice() -> None:
    watched = Watched(DEAD)
    supervision = watched.supervision(linger_s=60)
    supervision.start()
    wait_until(lambda: watched.told)
    supervision.stop()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "mlspec-supervision"])
    assert not watched.ended.is_set()


def test_a_dead_thread_turns_the_service_red_and_fails_what_was_accepted() -> None:
    async def check() -> None:
        async with running(**MORTAL) as service:
            ended = threading.Event()
            supervision = Supervision(
                service.model.fault, service.model.fail, end=ended.set, poll_s=0.01, linger_s=0.01
            )
            supervision.start()
            asks = [service.client.post("/predict", json={"text": "a", "end": end}) for end in ("thread", "", "")]
            for answer in await asyncio.gather(*asks):
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "engine_dead"
            await asyncio.to_thread(wait_until, lambda: not service.model.ready)
            for path, method in (("/health", "GET"), ("/predict", "POST")):
                answer = await service.client.request(method, path, json={"text": "a"})
                assert answer.status_code == 503
                assert answer.json()["error"]["code"] == "engine_dead"
                assert answer.json()["error"]["message"] == "the thread has ended; a new process takes over"
                assert int(answer.headers["Retry-After"]) > 0
            assert service.value('mlspec_faults_total{code="engine_dead"}') == 1
            assert service.value("mlspec_ready") == 0
            assert await asyncio.to_thread(ended.wait, 10)

    asyncio.run(check())


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def begin(file: Path, clock: Clock, lives_s: float) -> float:
    """A process begins, waits as told, and lives for so long; the answer is the pause."""
    starts = Starts(file, clock)
    clock.now += starts.pause_s
    starts.begin()
    clock.now += lives_s
    return starts.pause_s


def test_the_first_end_has_no_pause_and_those_after_it_longer_ones(tmp_path: Path) -> None:
    clock = Clock()
    pauses = [begin(tmp_path / "starts.json", clock, 20) for _ in range(10)]
    assert pauses == [0, 0, FIRST_PAUSE_S, 20, 40, 80, 160, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S]


def test_a_long_pause_does_not_look_like_a_long_life(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(30):
        pause_s = begin(tmp_path / "starts.json", clock, 1)
    assert pause_s == MAX_PAUSE_S


def test_a_process_that_lived_long_begins_anew(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(5):
        begin(tmp_path / "starts.json", clock, 1)
    begin(tmp_path / "starts.json", clock, EARLY_S + 1)
    assert begin(tmp_path / "starts.json", clock, 1) == 0


def test_a_clock_that_was_set_back_is_no_early_end(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(5):
        begin(tmp_path / "starts.json", clock, 1)
    clock.now -= 10_000
    assert Starts(tmp_path / "starts.json", clock).pause_s == 0


def test_another_build_than_before_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "starts.json"
    for build in ("a" * 64, "a" * 64):
        Starts(file, build=build).begin()
    assert not caplog.records
    Starts(file, build="b" * 64).begin()
    Starts(file, build="b" * 64).begin()
    (told,) = caplog.messages
    assert told.startswith("the bundle was built anew since the process before this one began: plan bbbbbbbbbbbb, ")


def test_a_build_is_told_by_its_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    before = plan_digest(tmp_path)
    assert before == plan_digest(tmp_path)
    plan.write_text('{"a": 1}')
    assert plan_digest(tmp_path) != before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"began_at": 1, "early": 2, "other": 3}', "\ud800"])
def test_a_broken_file_is_told_and_makes_no_pause(tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    (tmp_path / "starts.json").write_bytes(text.encode(errors="surrogatepass"))
    assert Starts(tmp_path / "starts.json").pause_s == 0
    assert "can't be read" in caplog.text


def test_a_file_that_can_not_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Starts(tmp_path / "nowhere/starts.json").begin()
    assert "can't be kept" in caplog.text


def test_during_the_pause_the_service_says_why_and_then_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlspec_runtime.starts.FIRST_PAUSE_S", 0.5)
    file = tmp_path / "starts.json"
    for _ in range(2):
        Starts(file).begin()

    async def check() -> None:
        async with running(starts=Starts(file), wait=False) as service:
            error = {"code": "model_loading"}
            while error["code"] == "model_loading":  # the thread that loads has just been started
                answer = await service.client.get("/health")
                assert answer.status_code == 503
                error = answer.json()["error"]
            assert error["code"] == "ends_early"
            assert error["message"].startswith("the process ended 2 times in a row")
            assert error["retry_after_s"] == 1
            assert not service.model.ready
            await asyncio.to_thread(wait_until, lambda: service.model.ready)
            assert (await service.client.get("/health")).status_code == 200

    asyncio.run(check())


def test_the_pause_is_told_by_what_is_left_of_it(tmp_path: Path) -> None:
    file = tmp_path / "starts.json"
    for _ in range(2):
        Starts(file).begin()

    async def check() -> None:
        async with running(starts=Starts(file), wait=False) as service:
            left = 10.0
            while left > 9:
                error = (await service.client.get("/health")).json()["error"]
                left = error.get("retry_after_s", left) if error["code"] == "ends_early" else left
                await asyncio.sleep(0.05)
            assert f"again in {left:g} s" in error["message"]
            service.model.close()

    asyncio.run(check())


def test_a_service_that_is_closed_in_its_pause_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlspec_runtime.starts.FIRST_PAUSE_S", 60.0)
    file = tmp_path / "starts.json"
    for _ in range(2):
        Starts(file).begin()

    async def check() -> None:
        async with running(starts=Starts(file), wait=False) as service:
            began_at = time.monotonic()
            service.model.close()
            wait_until(lambda: not [t for t in threading.enumerate() if t.name == "mlspec-load"])
            assert time.monotonic() - began_at < 30
            assert not service.model.ready
            assert service.value("mlspec_ready") == 0

    asyncio.run(check())
