"""Answers that are kept, and requests in flight that are one: with a real runner that says its words as it is let."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from mlspec_runtime.app import create_app
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateResponse, Timings, TokenEvent, Usage
from mlspec_runtime.heat.reading import NoReader
from mlspec_runtime.heat.watch import HeatWatch
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import Limits, parse_plan
from mlspec_runtime.protocol import RunnerContext, Stats
from mlspec_runtime.response_cache import caching
from mlspec_runtime.response_cache.runner import CachingRunner
from mlspec_runtime.response_cache.sharing import shared
from mlspec_runtime.response_cache.stores import ENTRY_BYTES, MemoryStore, Store
from mlspec_runtime.served_model import ServedModel, create_runner
from mlspec_runtime.submission import Output, Submission
from runtime.bundles import runtime_block
from runtime.echo_runner import EchoRequest, EchoResponse, Word
from runtime.keyed_runner import CHANCE, KeyedRunner
from runtime.services import wait_until

TEXT = "one two three"


@dataclass
class Counts:
    """What the metrics are told."""

    hits: int = 0
    misses: int = 0
    joins: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def response_cache_hit(self) -> None:
        self.hits += 1

    def response_cache_miss(self) -> None:
        self.misses += 1

    def response_cache_joined(self) -> None:
        self.joins += 1

    def response_cache_size(self, entries: int, size_bytes: int) -> None:
        self.sizes.append((entries, size_bytes))

    @property
    def all(self) -> tuple[int, int, int]:
        return self.hits, self.misses, self.joins


@dataclass
class Cache:
    """A caching runner and the runner in it."""

    runner: CachingRunner
    inner: KeyedRunner
    counts: Counts
    store: Store
    names: int = 0

    async def ask(self, text: str = TEXT, *, stream: bool = False, **more: Any) -> Submission:
        """Hand in a request; their ids are r1, r2, …"""
        self.names += 1
        return await self.runner.submit(EchoRequest(text=text, **more), f"r{self.names}", stream=stream)


@asynccontextmanager
async def a_cache(entries: int = 8, max_bytes: int = 1 << 20) -> AsyncIterator[Cache]:
    counts, limits = Counts(), Limits(64, 30.0, 4096, 1, 64)
    inner = KeyedRunner(RunnerContext("predict", {}, limits, Path(), lambda stats: None))
    store = MemoryStore(entries, max_bytes, counts.response_cache_size)
    runner = CachingRunner(inner, counts, lambda models: store)
    runner.load({})
    try:
        yield Cache(runner, inner, counts, store)
    finally:
        runner.close()


async def told(submission: Submission) -> list[str]:
    """The words of a submission, and its whole answer at last."""
    texts = []
    async with asyncio.timeout(10):
        while True:
            output = await submission.output()
            assert isinstance(output.data, Word | EchoResponse)
            texts.append(output.data.text)
            if output.final:
                return texts


async def failure(submission: Submission) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await told(submission)
    return caught.value


async def settled() -> None:
    """What the computing thread has put has arrived."""
    for _ in range(3):
        await asyncio.sleep(0.01)


def run(scenario: Any) -> None:
    asyncio.run(scenario())


# What is kept


def test_an_equal_request_is_answered_from_the_cache() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            cache.inner.let()
            assert await told(await cache.ask()) == [TEXT]
            assert await told(await cache.ask()) == [TEXT]
            assert await told(await cache.ask(times=2)) == [f"{TEXT} {TEXT}"]
            assert cache.inner.computed == ["r1", "r3"]
            assert cache.counts.all == (1, 2, 0)

    run(scenario)


def test_what_chance_has_a_part_in_is_computed_each_time() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            cache.inner.let()
            for _ in range(2):
                assert len(await told(await cache.ask("x", times=CHANCE))) == 1
            both = [await cache.ask("x", times=CHANCE) for _ in range(2)]
            assert [len(await told(one)) for one in both] == [1, 1]
            assert len(cache.inner.computed) == 4
            assert cache.counts.all == (0, 0, 0)

    run(scenario)


def test_a_stream_and_a_plain_request_share_an_answer() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            cache.inner.let()
            assert await told(await cache.ask(stream=True)) == ["one", "two", "three", TEXT]
            assert await told(await cache.ask()) == [TEXT]
            # The echo's answers have no events of their own: the stream is its end.
            assert await told(await cache.ask(stream=True)) == [TEXT]
            assert cache.counts.all == (2, 1, 0)

    run(scenario)


def test_the_metrics_know_the_size() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            cache.inner.let()
            await told(await cache.ask())
            ((entries, kept_bytes),) = cache.counts.sizes
            assert (entries, kept_bytes) == (1, len(EchoResponse(text=TEXT, words=3).model_dump_json()) + ENTRY_BYTES)

    run(scenario)


def test_an_answer_that_cannot_be_read_is_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            cache.inner.let()
            await told(await cache.ask())
            (key,) = cache.store._answers  # type: ignore[attr-defined]
            cache.store.put(key, b'{"text": "secret words"}')
            assert await told(await cache.ask()) == [TEXT]
            assert cache.counts.all == (0, 2, 0)
            assert await told(await cache.ask()) == [TEXT]
            assert cache.counts.hits == 1

    with caplog.at_level(logging.WARNING):
        run(scenario)
    assert "can't be read" in caplog.text
    assert "secret" not in caplog.text


# In memory


def store_of(entries: int = 3, max_bytes: int = 10_000) -> tuple[MemoryStore, list[tuple[int, int]]]:
    sizes: list[tuple[int, int]] = []
    return MemoryStore(entries, max_bytes, lambda *size: sizes.append(size)), sizes


def test_the_least_used_goes_first() -> None:
    store, sizes = store_of()
    for name in (b"a", b"b", b"c"):
        store.put(name, name)
    assert store.get(b"a") == b"a"
    store.put(b"d", b"d")
    assert [store.get(name) for name in (b"a", b"b", b"c", b"d")] == [b"a", None, b"c", b"d"]
    assert sizes[-1] == (3, 3 * (1 + ENTRY_BYTES))


def test_bytes_are_bounded_too() -> None:
    store, sizes = store_of(100, 2 * (100 + ENTRY_BYTES))
    for name in (b"a", b"b", b"c"):
        store.put(name, bytes(100))
    assert store.get(b"a") is None
    store.put(b"large", bytes(1000))
    assert (store.get(b"large"), store.get(b"c")) == (None, bytes(100))
    store.put(b"c", bytes(50))
    store.remove(b"b")
    store.remove(b"b")
    assert sizes[-1] == (1, 50 + ENTRY_BYTES)
    store.close()
    assert sizes[-1] == (0, 0)


# Requests in flight


def test_equal_requests_at_the_same_time_are_computed_once() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            tasks = len(asyncio.all_tasks())
            all_of_them = [await cache.ask() for _ in range(10)]
            assert len(asyncio.all_tasks()) == tasks
            cache.inner.let()
            assert [await told(one) for one in all_of_them] == [[TEXT]] * 10
            assert cache.inner.computed == ["r1"]
            assert cache.counts.all == (0, 1, 9)
            for one in all_of_them:
                cache.runner.cancel(one)
            assert not cache.inner.stopped
            assert not cache.runner._flights
            assert not cache.runner._by_submission

    run(scenario)


def test_a_stream_that_joins_has_what_came_before() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            first = await cache.ask(stream=True)
            cache.inner.let(2)
            assert [(await first.output()).data.model_dump()["text"] for _ in range(2)] == ["one", "two"]
            second = await cache.ask(stream=True)
            plain = await cache.ask()
            assert [(await second.output()).data.model_dump()["text"] for _ in range(2)] == ["one", "two"]
            cache.inner.let()
            assert await told(first) == await told(second) == ["three", TEXT]
            assert await told(plain) == [TEXT]
            assert cache.inner.computed == ["r1"]

    run(scenario)


def test_a_stream_that_joins_a_plain_request_has_its_end() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            first, second = await cache.ask(), await cache.ask(stream=True)
            cache.inner.let()
            assert [await told(first), await told(second)] == [[TEXT], [TEXT]]
            assert cache.inner.computed == ["r1"]

    run(scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_computing_goes_on_while_one_of_them_is_there(stream: bool) -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            all_of_them = [await cache.ask(stream=stream) for _ in range(3)]
            cache.inner.let(1)
            await settled()
            cache.runner.cancel(all_of_them[0])
            # An exchange may close more than once.
            cache.runner.cancel(all_of_them[0])
            cache.runner.cancel(all_of_them[1])
            cache.inner.let()
            assert (await told(all_of_them[2]))[-1] == TEXT
            assert not cache.inner.stopped
            assert await told(await cache.ask()) == [TEXT]
            assert cache.counts.all == (1, 1, 2)

    run(scenario)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_it_stops_when_the_last_has_gone(order: tuple[int, ...]) -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            all_of_them = [await cache.ask() for _ in range(3)]
            wait_until(lambda: cache.inner.computed)
            for index in order[:-1]:
                cache.runner.cancel(all_of_them[index])
            assert cache.inner._room.stats() != Stats(0, 0)
            cache.runner.cancel(all_of_them[order[-1]])
            wait_until(lambda: cache.inner.stopped == ["r1"])
            assert not cache.runner._by_submission
            cache.inner.let()
            assert await told(await cache.ask()) == [TEXT]
            assert cache.inner.computed == ["r1", "r4"]

    run(scenario)


def test_one_that_joins_after_the_first_has_gone() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            first, second = await cache.ask(stream=True), await cache.ask(stream=True)
            cache.inner.let(1)
            await settled()
            cache.runner.cancel(first)
            third = await cache.ask(stream=True)
            cache.runner.cancel(second)
            cache.inner.let()
            assert await told(third) == ["one", "two", "three", TEXT]
            assert cache.inner.computed == ["r1"]

    run(scenario)


def test_the_deadline_of_the_first_is_its_own() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            first, second = await cache.ask(stream=True), await cache.ask(stream=True)
            first.interrupt(ServiceError("deadline_exceeded", "too late", 504))
            assert (await failure(first)).code == "deadline_exceeded"
            cache.runner.cancel(first)
            cache.inner.let()
            assert (await told(second))[-1] == TEXT

    run(scenario)


# Before the runner has the request


async def waiting_at_the_door(cache: Cache, count: int) -> list[asyncio.Task[Submission]]:
    cache.inner.doors = asyncio.Event()
    tasks = [asyncio.ensure_future(cache.ask()) for _ in range(count)]
    await settled()
    return tasks


def test_one_that_joins_before_the_runner_has_it() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            first, second = await waiting_at_the_door(cache, 2)
            assert not first.done()
            assert cache.inner.doors is not None
            cache.inner.doors.set()
            cache.inner.let()
            assert await told(await first) == await told(await second) == [TEXT]
            assert cache.counts.all == (0, 1, 1)

    run(scenario)


def test_the_first_leaves_before_the_runner_has_it() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            first, second = await waiting_at_the_door(cache, 2)
            assert cache.inner.doors is not None
            first.cancel()
            await settled()
            third = await cache.ask()
            cache.inner.doors.set()
            cache.inner.let()
            assert await told(await second) == await told(third) == [TEXT]
            assert cache.inner.computed == ["r2"]
            assert first.cancelled()

    run(scenario)


def test_all_leave_before_the_runner_has_it() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            first, second = await waiting_at_the_door(cache, 2)
            assert cache.inner.doors is not None
            first.cancel()
            await settled()
            cache.runner.cancel(await second)
            cache.inner.doors.set()
            await settled()
            assert not cache.runner._flights
            assert not cache.runner._by_submission
            cache.inner.let()
            assert await told(await cache.ask()) == [TEXT]
            assert "r2" not in cache.inner.computed or cache.inner.stopped == ["r2"]

    run(scenario)


def test_one_alone_leaves_before_the_runner_has_it() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            (first,) = await waiting_at_the_door(cache, 1)
            first.cancel()
            await settled()
            assert not cache.runner._flights
            assert not cache.inner.computed

    run(scenario)


# Failures


def test_a_failure_is_told_to_all_and_not_kept() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            all_of_them = [await cache.ask(fail="late") for _ in range(3)]
            cache.inner.let()
            errors = [await failure(one) for one in all_of_them]
            assert [error.code for error in errors] == ["engine_error"] * 3
            assert len({id(error) for error in errors}) == 3
            assert (await failure(await cache.ask(fail="late"))).code == "engine_error"
            assert cache.inner.computed == ["r1", "r4"]

    run(scenario)


@pytest.mark.parametrize(("fail", "code"), [("known", "too_loud"), ("unknown", "internal")])
def test_a_refusal_is_told_to_those_who_joined(fail: str, code: str) -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            cache.inner.doors = asyncio.Event()
            first = asyncio.ensure_future(cache.ask(fail=fail))
            await settled()
            second = await cache.ask(fail=fail)
            cache.inner.doors.set()
            with pytest.raises(ServiceError if fail == "known" else RuntimeError):
                await first
            error = await failure(second)
            assert (error.code, "secret" in error.message) == (code, False)
            cache.runner.cancel(second)
            assert not cache.runner._flights

    run(scenario)


def test_a_refusal_after_the_first_has_gone(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            cache.inner.doors = asyncio.Event()
            for fail in ("known", "unknown"):
                cache.inner.doors.clear()
                first = asyncio.ensure_future(cache.ask(fail=fail))
                await settled()
                second = await cache.ask(fail=fail)
                first.cancel()
                await settled()
                cache.inner.doors.set()
                assert (await failure(second)).code == ("too_loud" if fail == "known" else "internal")

    run(scenario)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "request r4 could not be started"
    ]


def test_closing_ends_those_who_wait() -> None:
    async def scenario() -> None:
        async with a_cache() as cache:
            other = await cache.ask("a b c d")
            all_of_them = [await cache.ask() for _ in range(2)]
            await asyncio.to_thread(cache.runner.close)
            assert {(await failure(one)).code for one in all_of_them} == {"shutting_down"}
            cache.runner.cancel(other)

    run(scenario)


def test_many_clients_that_come_and_go() -> None:
    """Whatever order they come and go in, who stays has the whole answer, and nothing is left behind."""

    async def client(cache: Cache, number: int) -> None:
        submission = await cache.ask(f"one two {number % 7}", stream=number % 3 == 0)
        try:
            if number % 4 == 0:
                await asyncio.sleep(0.0005 * (number % 11))
            else:
                assert (await told(submission))[-1] == f"one two {number % 7}"
        finally:
            cache.runner.cancel(submission)

    async def scenario() -> None:
        async with a_cache(entries=3) as cache:
            cache.inner.let(100_000)
            await asyncio.gather(*(client(cache, number) for number in range(400)))
            await settled()
            assert not cache.runner._flights
            assert not cache.runner._by_submission
            assert cache.counts.hits + cache.counts.misses + cache.counts.joins == 400
            assert cache.counts.misses < 200

    run(scenario)


# Answers of language models


def generated() -> GenerateResponse:
    return GenerateResponse(
        text="Paris.",
        tokens=[5, 6],
        finish_reason="stop",
        adapter="base",
        usage=Usage(prompt_tokens=3, completion_tokens=2),
        timings=Timings(queue_s=1.0, time_to_first_token_s=2.0, total_s=3.0),
        request_id="first",
    )


def test_an_answer_from_the_cache_is_for_its_own_request() -> None:
    answer = GenerateResponse.model_validate_json(generated().model_dump_json())
    (output,) = shared("done", answer, "second", 0.00012345, replayed=False)
    assert isinstance(output.data, GenerateResponse)
    assert (output.final, output.event, output.measures) == (True, "done", None)
    assert (output.data.request_id, output.data.cached) == ("second", True)
    assert output.data.timings == Timings(queue_s=0.0, time_to_first_token_s=0.000123, total_s=0.000123)
    same = {"text", "tokens", "finish_reason", "adapter", "usage"}
    assert output.data.model_dump(include=same) == generated().model_dump(include=same)
    assert (answer.request_id, answer.cached) == ("first", False)


def test_a_stream_from_the_cache_has_its_text() -> None:
    piece, done = shared("done", generated(), "second", 0.1, replayed=True)
    assert piece == Output("token", TokenEvent(text="Paris.", tokens=[5, 6]))
    assert done.final
    assert len(list(shared("done", generated().model_copy(update={"text": ""}), "x", 0.1, replayed=True))) == 1


# In a service


@asynccontextmanager
async def a_service(**changes: Any) -> AsyncIterator[tuple[httpx.AsyncClient, KeyedRunner, CollectorRegistry]]:
    """The application around the keyed runner, wrapped as a bundle does it."""
    runner_block = {"name": "keyed", "module": "runtime.keyed_runner", "settings": {}}
    plan = parse_plan({"runtime": runtime_block(runner=runner_block, **changes)})
    registry = CollectorRegistry()
    metrics = Metrics(plan, registry)
    inner = create_runner(plan, Path(), metrics)
    runner = caching(plan, Path(), inner, metrics, {})
    heat = HeatWatch(plan, runner, metrics, reader=NoReader())
    model = ServedModel(plan, Path(), runner, metrics, lambda tag: None, heat)
    model.start({})
    wait_until(lambda: model.ready)
    assert isinstance(inner, KeyedRunner)
    inner.let(10_000)
    transport = httpx.ASGITransport(app=create_app(plan, runner, model, metrics))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client, inner, registry
    finally:
        model.close()


MEMORY = {"response_cache": {"store": "memory", "entries": 4, "max_bytes": 4096}}


def test_a_service_answers_from_its_cache() -> None:
    async def scenario() -> None:
        async with a_service(**MEMORY) as (client, inner, registry):
            answers = [await client.post("/predict", json={"text": TEXT}) for _ in range(3)]
            streamed = await client.post("/predict/stream", json={"text": TEXT})
            assert [answer.json()["text"] for answer in answers] == [TEXT] * 3
            assert streamed.text.count("event: done") == 1
            assert len(inner.computed) == 1
            found = {
                result: registry.get_sample_value("mlspec_response_cache_requests_total", {"result": result})
                for result in ("hit", "miss")
            }
            assert found == {"hit": 3.0, "miss": 1.0}
            assert registry.get_sample_value("mlspec_response_cache_entries") == 1.0

    run(scenario)


def test_without_a_cache_the_runner_is_as_it_was() -> None:
    async def scenario() -> None:
        async with a_service() as (client, inner, _):
            for _ in range(2):
                assert (await client.post("/predict", json={"text": TEXT})).status_code == 200
            assert len(inner.computed) == 2

    run(scenario)
