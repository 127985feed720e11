"""The engine's scheduling, with a small language model that counts: fairness, cancelling, failures."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.engine import Engine
from mlspec_runtime.generate.job import Job, Started, Step
from mlspec_runtime.generate.messages import GenerateResponse, Sampling
from mlspec_runtime.protocol import Stats
from mlspec_runtime.waiting_room import WaitingRoom
from runtime.services import wait_until


class Digits:
    """A detokenizer: each token is its number and a blank."""

    def __init__(self) -> None:
        self._text = ""

    def add_token(self, token: int) -> None:
        self._text += f"{token} "

    def finalize(self) -> None:
        pass

    @property
    def last_segment(self) -> str:
        text, self._text = self._text, ""
        return text


class Counting:
    """Counts on from the prompt's last number, by 100 with the adapter `far`; 0 ends it. It steps when it is let."""

    def __init__(self) -> None:
        self.adapter = "base"
        self.swaps: list[str] = []
        self.started: list[int] = []
        self.rows: dict[int, list[int]] = {}
        self.resets = 0
        self.prefill_step = 0
        self.closed_by = 0
        self.next_error: BaseException | None = None
        self.settle_error: BaseException | None = None
        self.settled = 0
        self.refused = ""
        self.steps = threading.Semaphore(0)
        self._ids = itertools.count()

    def admits(self, adapter: str) -> bool:
        return not self.rows or adapter == self.adapter

    def start(self, prompt: Sequence[int], sampling: Sampling, adapter: str) -> Started:
        if adapter == self.refused:
            raise ServiceError("adapter_unavailable", "it can't be read", 503)
        if adapter != self.adapter:
            assert not self.rows, "a swap with rows in flight"
            self.adapter = adapter
            self.swaps.append(adapter)
        if prompt[0] < 0:
            raise ValueError("negative")
        row = next(self._ids)
        self.rows[row] = [prompt[-1], sampling.max_tokens]
        self.started.append(prompt[-1])
        return Started(row)

    def drop(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self.rows[row]

    def step(self) -> list[Step]:
        self.steps.acquire()
        if self.next_error is not None:
            error, self.next_error = self.next_error, None
            raise error
        return [self._step(row) for row in list(self.rows)]

    def _step(self, row: int) -> Step:
        state = self.rows[row]
        state[0] += 100 if self.adapter == "far" else 1
        state[1] -= 1
        if state[1] and state[0] != 10:
            return Step(row, state[0], None)
        del self.rows[row]
        return Step(row, state[0], "length" if state[0] != 10 else "stop")

    def settle(self) -> None:
        self.settled += 1
        if self.settle_error is not None:
            error, self.settle_error = self.settle_error, None
            raise error

    def read_prompts_by(self, tokens: int) -> None:
        self.prefill_step = tokens

    def memory_bytes(self) -> Mapping[str, int]:
        return {"rows": len(self.rows)}

    def counts(self) -> Mapping[str, int]:
        return {}

    def detokenizer(self) -> Digits:
        return Digits()

    def reset(self) -> None:
        self.rows.clear()
        self.resets += 1

    def close(self) -> None:
        self.closed_by = threading.get_ident()


class Bench:
    """An engine with the counting model, and its jobs."""

    def __init__(self, concurrency: int = 2, queue: int = 20) -> None:
        self.room = WaitingRoom[Job](running=concurrency, waiting=queue, watch=lambda stats: None)
        self.engine = Engine(self.room, concurrency=concurrency)
        self.model = Counting()
        self.engine.open(lambda: self.model)

    def put(self, prompt: int, max_tokens: int = 2, adapter: str = "base", stop: tuple[str, ...] = ()) -> Job:
        job = Job(str(prompt), [prompt], Sampling(max_tokens=max_tokens, stop=stop), adapter)
        self.engine.submit(job)
        return job

    def let(self, steps: int = 1000) -> None:
        self.model.steps.release(steps)


def on_bench(test: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def whole() -> None:
        bench = Bench(**options)
        try:
            await asyncio.wait_for(test(bench), 20)
        finally:
            bench.let()
            bench.engine.close()

    asyncio.run(whole())


async def answer(job: Job) -> GenerateResponse:
    data = (await job.output()).data
    assert isinstance(data, GenerateResponse)
    return data


def test_answers_usage_and_reasons() -> None:
    async def check(bench: Bench) -> None:
        bench.let()
        length = await answer(bench.put(1, 3))
        assert (length.text, length.tokens, length.finish_reason) == ("2 3 4 ", [2, 3, 4], "length")
        assert (length.usage.prompt_tokens, length.usage.completion_tokens) == (1, 3)
        assert length.timings.queue_s <= (length.timings.time_to_first_token_s or 0) <= length.timings.total_s
        stop = await answer(bench.put(7, 9))
        assert (stop.tokens, stop.finish_reason) == ([8, 9], "stop")
        text = await answer(bench.put(1, 9, stop=("3 4",)))
        assert (text.text, text.tokens, text.finish_reason) == ("2 ", [2, 3, 4], "stop")
        assert not bench.model.rows
        assert bench.room.stats() == Stats(0, 0)

    on_bench(check)


def test_the_batch_is_never_larger_than_its_places() -> None:
    async def check(bench: Bench) -> None:
        jobs = [bench.put(n, 3) for n in range(20, 30)]
        sizes = []
        while bench.room.stats() != Stats(0, 0):
            wait_until(lambda: bench.model.rows or bench.room.stats() == Stats(0, 0))
            sizes.append(len(bench.model.rows))
            bench.let(1)
            await asyncio.sleep(0.002)
        assert max(sizes) == 3
        assert [(await answer(job)).tokens[0] for job in jobs] == list(range(21, 31))

    on_bench(check, concurrency=3)


def test_requests_are_grouped_by_adapter_and_equal_those_alone() -> None:
    async def check(bench: Bench) -> None:
        first = bench.put(20)
        wait_until(lambda: bench.model.started == [20])
        jobs = [bench.put(30 + n, adapter=("far", "base")[n % 2]) for n in range(8)]
        bench.let()
        assert (await answer(first)).tokens == [21, 22]
        for n, job in enumerate(jobs):
            by = (100, 1)[n % 2]
            got = await answer(job)
            assert (got.tokens, got.adapter) == ([30 + n + by, 30 + n + 2 * by], ("far", "base")[n % 2])
        # Eight alternating requests, two swaps.
        assert bench.model.swaps == ["far", "base"]
        assert bench.model.started[1:] == [30, 32, 34, 36, 31, 33, 35, 37]

    on_bench(check)


def test_a_stream_of_one_adapter_keeps_no_other_out() -> None:
    async def check(bench: Bench) -> None:
        early = [bench.put(20 + n, 3) for n in range(4)]
        wait_until(lambda: bench.model.started == [20, 21])
        far = bench.put(50, adapter="far")
        late = [bench.put(60 + n) for n in range(6)]
        bench.let()
        for job in (*early, far, *late):
            await answer(job)
        # Those who came before `far` go first, those who came after it go after it.
        assert bench.model.started == [20, 21, 22, 23, 50, 60, 61, 62, 63, 64, 65]

    on_bench(check)


def test_cancelled_requests_leave_the_queue_at_once_and_the_batch_before_the_next_step() -> None:
    async def check(bench: Bench) -> None:
        running, waiting, other = bench.put(20, 900), bench.put(21, 900), bench.put(22, 2)
        wait_until(lambda: bench.model.started == [20])
        assert bench.room.stats() == Stats(waiting=2, running=1)
        bench.engine.cancel(waiting)
        assert bench.room.stats() == Stats(waiting=1, running=1)
        bench.engine.cancel(running)
        bench.let()
        assert (await answer(other)).tokens == [23, 24]
        assert bench.model.started == [20, 22]
        bench.engine.cancel(other)
        assert bench.room.stats() == Stats(0, 0)

    on_bench(check, concurrency=1)


def test_a_failed_step_fails_its_requests_alone() -> None:
    async def check(bench: Bench) -> None:
        lost = [bench.put(20), bench.put(21)]
        kept = bench.put(22)
        wait_until(lambda: len(bench.model.rows) == 2)
        bench.model.next_error = RuntimeError("secret")
        bench.let()
        for job in lost:
            with pytest.raises(ServiceError) as error:
                await job.output()
            assert (error.value.status, error.value.code) == (500, "engine_error")
            assert "secret" not in error.value.message
        assert (await answer(kept)).tokens == [23, 24]
        assert bench.model.resets == 1
        assert bench.engine.alive

    on_bench(check)


def test_what_could_wait_is_done_once_answers_are_out_and_fails_as_a_step_does() -> None:
    async def check(bench: Bench) -> None:
        bench.model.settle_error = RuntimeError("secret")
        done, lost = bench.put(20, 1), bench.put(30, 900)
        bench.let(1)
        assert (await answer(done)).tokens == [21]
        bench.let()
        with pytest.raises(ServiceError) as error:
            await lost.output()
        assert (error.value.code, bench.model.resets) == ("engine_error", 1)
        assert (await answer(bench.put(40))).tokens == [41, 42]
        assert bench.model.settled > 1

    on_bench(check)


def test_an_adapter_that_can_t_be_loaded_fails_its_request_with_the_reason() -> None:
    async def check(bench: Bench) -> None:
        bench.model.refused = "gone"
        lost, good = bench.put(20, adapter="gone"), bench.put(30)
        bench.let()
        with pytest.raises(ServiceError) as error:
            await lost.output()
        assert (error.value.status, error.value.code) == (503, "adapter_unavailable")
        assert (await answer(good)).tokens == [31, 32]
        assert bench.room.stats() == Stats(0, 0)

    on_bench(check)


def test_a_request_that_the_framework_refuses_fails_alone() -> None:
    async def check(bench: Bench) -> None:
        good, bad = bench.put(20), bench.put(-1)
        bench.let()
        with pytest.raises(ServiceError, match="log"):
            await bad.output()
        assert (await answer(good)).tokens == [21, 22]

    on_bench(check)


def test_a_dead_thread_fails_all_and_lets_nobody_in() -> None:
    async def check(bench: Bench) -> None:
        jobs = [bench.put(20), bench.put(21), bench.put(22)]
        bench.model.next_error = SystemExit()
        bench.let()
        for job in jobs:
            with pytest.raises(ServiceError) as error:
                await job.output()
            assert error.value.code == "engine_dead"
        with pytest.raises(ServiceError) as refused:
            bench.put(23)
        assert (refused.value.status, refused.value.code) == (503, "engine_dead")
        wait_until(lambda: not bench.engine.alive)

    on_bench(check)


def test_closing_fails_what_is_left_and_closes_the_model_on_its_thread() -> None:
    async def check(bench: Bench) -> None:
        jobs = [bench.put(20, 900), bench.put(21, 900), bench.put(22)]
        wait_until(lambda: len(bench.model.rows) == 2)
        closing = asyncio.create_task(asyncio.to_thread(bench.engine.close))
        for job in jobs:
            with pytest.raises(ServiceError, match="shutting down"):
                await job.output()
        bench.let()
        await closing
        assert not bench.engine.alive
        assert bench.model.closed_by not in (0, threading.get_ident())

    on_bench(check)


def test_a_throttle_holds_from_the_next_step_and_ends_nobody() -> None:
    async def check(bench: Bench) -> None:
        jobs = [bench.put(n, 4) for n in range(20, 28)]
        wait_until(lambda: len(bench.model.rows) == 3)
        bench.engine.throttle(1, 64)
        sizes = []
        while bench.room.stats() != Stats(0, 0):
            sizes.append(len(bench.model.rows))
            bench.let(1)
            await asyncio.sleep(0.002)
        assert sorted({size for size in sizes if size}, reverse=True) == [3, 1]
        assert bench.model.prefill_step == 64
        assert [len((await answer(job)).tokens) for job in jobs] == [4] * 8
        bench.engine.throttle(2, None)
        jobs = [bench.put(n, 4) for n in range(20, 23)]
        wait_until(lambda: bench.model.rows)
        bench.let(1)
        wait_until(lambda: len(bench.model.rows) == 2)
        bench.let()
        assert [len((await answer(job)).tokens) for job in jobs] == [4] * 3
        assert bench.model.prefill_step == 64

    on_bench(check, concurrency=3)


def test_the_pace_leaves_out_steps_that_read_prompts() -> None:
    async def check(bench: Bench) -> None:
        first = bench.put(20, 6)
        wait_until(lambda: bench.model.started == [20])
        # The first step gives the first token: up to it the prompt was read.
        bench.let(1)
        wait_until(lambda: first.first_token_at)
        second = bench.put(30, 3)
        bench.let(2)
        wait_until(lambda: second.first_token_at)
        bench.let()
        await answer(first)
        await answer(second)
        found = {(pace.kind.rows, pace.kind.context): pace.steps for pace in bench.engine.paces()}
        assert sum(found.values()) == 5 - 1
        assert {rows for rows, _ in found} == {1, 2}
        assert bench.engine.paces() == ()
        assert bench.engine.memory_bytes() == {"rows": 0}

    on_bench(check)


def test_what_loading_raises_comes_out_of_open() -> None:
    def broken() -> Counting:
        raise FileNotFoundError("no weights")

    room = WaitingRoom[Job](running=1, waiting=1, watch=lambda stats: None)
    with pytest.raises(FileNotFoundError, match="no weights"):
        Engine(room, concurrency=1).open(broken)
