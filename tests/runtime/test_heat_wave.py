"""A heat wave over a service under load: the real application, engine and governor, with a reader that plays it."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from mlspec_runtime.heat.reading import Reading
from mlspec_runtime.heat.watch import HeatWatch
from runtime.bundles import limits
from runtime.counting_runner import CountingModel
from runtime.services import Service, running, wait_until

CLIENTS = 24
TOKENS = 12
POLL_S = 5.0
WAVE = [0, 0, 1, 1, 2, 2, 3, 3, 4, 3, 2, 1, 1] + [0] * 22
GOVERNOR = {"reader": "macos", "cooling": "desktop", "poll_s": 3600.0, "recover_s": 15.0, "slowdown": 0.01}


class Weather:
    """A reader and a clock, both turned by the test."""

    def __init__(self) -> None:
        self.reading = Reading(level=0, low_power=False, on_battery=False)
        self.now_s = 0.0
        self.broken = False

    def read(self) -> Reading:
        if self.broken:
            raise RuntimeError("the reader is broken")
        return self.reading

    def clock(self) -> float:
        return self.now_s


@asynccontextmanager
async def serving(weather: Weather, fits: int = 8, **governor: Any) -> AsyncIterator[Service]:
    """The counting service, once its thread has looked for the first time; the next look is an hour away."""
    settings = {"prefill_step": 512, "fits": fits}
    runner = {"name": "counting", "module": "runtime.counting_runner", "settings": settings}
    changes: dict[str, Any] = {"runner": runner, "limits": limits(concurrency=8, queue=64)}
    changes["governor"] = {**GOVERNOR, **governor}
    async with running(reader=weather, clock=weather.clock, **changes) as service:
        wait_until(lambda: service.model.heat.reading != Reading())
        yield service


class Load:
    """Clients that ask, one request after another, and keep every answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._numbers = itertools.count(1)
        self.asked = 0
        self.good: list[tuple[int, httpx.Response]] = []
        self.refused: list[httpx.Response] = []
        self._over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._ask_on()) for _ in range(CLIENTS)]

    async def _ask_on(self) -> None:
        while not self._over.is_set():
            start = next(self._numbers)
            self.asked += 1
            response = await self._service.client.post("/predict", json={"start": start, "count": TOKENS})
            if response.status_code == 200:
                self.good.append((start, response))
            else:
                self.refused.append(response)
                await asyncio.sleep(0.01)

    async def more(self, answers: int) -> None:
        """Wait for so many answers more, good or not."""
        until = len(self.good) + len(self.refused) + answers
        while len(self.good) + len(self.refused) < until:
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        self._over.set()
        await asyncio.gather(*self._tasks)


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def looks(heat: HeatWatch, weather: Weather) -> Callable[[int], int]:
    def look(level: int) -> int:
        """The concurrency that is admitted after a look at this level; 0 while all is refused."""
        weather.reading = Reading(level=level, low_power=False, on_battery=False)
        weather.now_s += POLL_S
        heat.look()
        return 0 if heat.allowance.shed else heat.allowance.concurrency

    return look


def test_a_heat_wave_under_load() -> None:
    async def check() -> None:
        weather = Weather()
        async with serving(weather) as service:
            look, model = looks(service.model.heat, weather), service.runner.model  # type: ignore[attr-defined]
            load, admitted = Load(service), []
            for level in WAVE:
                admitted.append(look(level))
                await load.more(12)
                await settled(service, model, admitted[-1])
            await load.end()
            assert [now for now, _ in itertools.groupby(admitted)] == [8, 4, 2, 0, 2, 4, 8]
            assert model.prefill_steps == [512, 256, 128, 256, 512]
            check_answers(load, service)

    go(check())


async def settled(service: Service, model: CountingModel, admitted: int) -> None:
    """What was computed before goes on; after that the batch is never larger than what is admitted."""
    if admitted:
        while service.runner.stats().running > admitted:
            await asyncio.sleep(0.001)
        del model.sizes[:]
        await asyncio.sleep(0.01)
        assert max(model.sizes, default=0) <= admitted
    else:
        # All that was accepted is computed to its end; nothing new comes.
        while service.runner.stats().running + service.runner.stats().waiting:
            await asyncio.sleep(0.001)


def check_answers(load: Load, service: Service) -> None:
    """Each request was either refused with a word when to come again, or answered, whole and right."""
    assert len(load.good) + len(load.refused) == load.asked
    for start, response in load.good:
        assert response.json()["tokens"] == list(range(start + 1, start + 1 + TOKENS))
    assert load.refused
    for response in load.refused:
        assert response.status_code == 503
        assert response.headers["retry-after"] == "15"
        error = response.json()["error"]
        assert (error["code"], error["retry_after_s"]) == ("too_hot", 15.0)
        assert "the thermal pressure is" in error["message"] or "recovering" in error["message"]
    assert service.value('mlspec_errors_total{code="too_hot",endpoint="predict"}') == len(load.refused)
    assert service.value('mlspec_requests_total{endpoint="predict",status="200"}') == len(load.good)


def test_health_and_metrics_show_the_heat() -> None:
    async def check() -> None:
        weather = Weather()
        async with serving(weather) as service:
            look = looks(service.model.heat, weather)
            assert service.value("mlspec_admitted_concurrency") == 8
            assert look(2) == 2
            body = (await service.client.get("/health")).json()
            assert body["status"] == "ok"
            assert body["heat"] == {
                "level": "heavy",
                "low_power": False,
                "on_battery": False,
                "concurrency": 2,
                "prefill_step": 256,
                "shed": False,
                "reason": "the thermal pressure is heavy",
            }
            values = {name: service.value(f"mlspec_{name}") for name in ("thermal_level", "low_power")}
            assert values == {"thermal_level": 2, "low_power": 0}
            assert service.value("mlspec_admitted_concurrency") == 2
            assert 'mlspec_memory_bytes{kind="rows"} 0.0' in service.metrics()
            assert look(3) == 0
            assert service.value("mlspec_admitted_concurrency") == 0
            health = await service.client.get("/health")
            assert (health.status_code, health.json()["heat"]["shed"]) == (200, True)

    go(check())


def test_a_computer_with_less_memory_admits_less_and_says_so() -> None:
    """What its memory allows and what the heat allows: the less of both."""

    async def check() -> None:
        weather = Weather()
        async with serving(weather, fits=3) as service:
            look = looks(service.model.heat, weather)
            load, seen = Load(service), []
            for level in (0, 1, 2, 3):
                look(level)
                await load.more(12)
                await settled(service, service.runner.model, min(3, (8, 4, 2, 0)[level]))  # type: ignore[attr-defined]
                body = (await service.client.get("/health")).json()
                assert body["capacity"] == {"planned": 8, "concurrency": 3, "reason": "it has less"}
                seen.append((body["heat"]["concurrency"], service.value("mlspec_admitted_concurrency")))
            await load.end()
            assert seen == [(3, 3), (3, 3), (2, 2), (0, 0)]

    go(check())


def test_a_computer_as_planned_says_so() -> None:
    async def check() -> None:
        async with serving(Weather()) as service:
            body = (await service.client.get("/health")).json()
            assert body["capacity"] == {"planned": 8, "concurrency": 8, "reason": "as planned"}

    go(check())


def test_a_stream_that_has_begun_outlives_the_shedding() -> None:
    async def check() -> None:
        weather = Weather()
        async with serving(weather) as service:
            look = looks(service.model.heat, weather)
            body = {"start": 0, "count": 60}
            stream = asyncio.create_task(service.client.post("/predict/stream", json=body))
            while not service.runner.stats().running:
                await asyncio.sleep(0.001)
            assert look(4) == 0
            refused = await service.client.post("/predict/stream", json=body)
            assert refused.status_code == 503
            assert (await stream).text.count("event: token") + 1 >= 60

    go(check())


def test_a_smaller_room_refuses_earlier_and_keeps_who_is_in() -> None:
    async def check() -> None:
        weather = Weather()
        async with serving(weather) as service:
            posts = [
                asyncio.create_task(service.client.post("/predict", json={"start": n, "count": 60})) for n in range(72)
            ]
            while service.runner.stats().running + service.runner.stats().waiting < 72:
                await asyncio.sleep(0.001)
            looks(service.model.heat, weather)(1)
            full = await service.client.post("/predict", json={"start": 0, "count": 1})
            assert full.status_code == 429
            assert {(await post).status_code for post in posts} == {200}

    go(check())


def test_without_a_reader_nothing_is_governed() -> None:
    """Slowness on a computer that doesn't tell of heat has other reasons."""

    async def check() -> None:
        async with running(runner={"name": "counting", "module": "runtime.counting_runner"}) as service:
            heat = service.model.heat
            for _ in range(3):
                heat.look()
            assert heat.told()["level"] == "unavailable"
            assert heat.told()["reason"] == "as planned"
            assert service.value("mlspec_thermal_level") == service.value("mlspec_low_power") == -1
            assert not service.runner.throttled_on  # type: ignore[attr-defined]

    go(check())


def test_the_thread_looks_on_after_a_look_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        weather = Weather()
        weather.broken = True
        runner = {"name": "counting", "module": "runtime.counting_runner", "settings": {"prefill_step": 512}}
        governor = {**GOVERNOR, "poll_s": 0.01}
        async with running(reader=weather, clock=weather.clock, runner=runner, governor=governor) as service:
            wait_until(lambda: caplog.text.count("looking at the heat failed") > 1)
            weather.reading, weather.broken = Reading(level=3), False
            wait_until(lambda: service.model.heat.allowance.shed)
            throttled_on: set[int] = service.runner.throttled_on  # type: ignore[attr-defined]
            assert threading.get_ident() not in throttled_on
            assert "mlspec-heat" in {thread.name for thread in threading.enumerate()}
        wait_until(lambda: "mlspec-heat" not in {thread.name for thread in threading.enumerate()})

    go(check())
