"""The end of a service: what was accepted has its answer, nothing new is let in, and there is a bound."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from mlspec_runtime import draining, ending
from mlspec_runtime.draining import Draining, OpenRequests
from mlspec_runtime.ending import end_gently
from runtime.services import Service, running


@asynccontextmanager
async def counted() -> AsyncIterator[tuple[Service, OpenRequests, httpx.AsyncClient]]:
    async with running() as service:
        requests = OpenRequests(service.app)
        transport = httpx.ASGITransport(app=requests)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield service, requests, client


async def begun(requests: OpenRequests, count: int) -> None:
    while requests.count < count:
        await asyncio.sleep(0.005)


def ask(client: httpx.AsyncClient, path: str, pause_s: float) -> asyncio.Task[httpx.Response]:
    return asyncio.ensure_future(client.post(path, json={"text": "a b c", "pause_s": pause_s}))


def test_what_was_accepted_ends_and_nothing_new_is_let_in() -> None:
    async def check() -> None:
        async with counted() as (service, requests, client):
            accepted = [ask(client, path, 0.05) for path in ("/predict", "/predict/stream", "/predict")]
            await begun(requests, 3)
            drained = asyncio.ensure_future(Draining(service.model, requests, 30).drain())
            await asyncio.sleep(0)
            assert not service.model.ready
            refused = await service.client.post("/predict", json={"text": "new"})
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "shutting_down"
            assert refused.headers["Retry-After"] == "5"
            assert (await service.client.get("/health")).status_code == 503
            assert not drained.done()
            await drained
            answers = await asyncio.gather(*accepted)
            assert [answer.status_code for answer in answers] == [200, 200, 200]
            assert '"words":3' in answers[1].text
            assert requests.count == 0

    asyncio.run(check())


def test_past_the_bound_they_get_an_error() -> None:
    async def check() -> None:
        async with counted() as (service, requests, client):
            accepted = [ask(client, path, 0.5) for path in ("/predict/stream", "/predict", "/predict")]
            await begun(requests, 3)
            await Draining(service.model, requests, 0.1).drain()
            answers = await asyncio.gather(*accepted)
            assert [answer.status_code for answer in answers[1:]] == [503, 503]
            for answer in answers:
                assert '"shutting_down"' in answer.text
            assert requests.count == 0

    asyncio.run(check())


def test_in_a_hurry_nobody_waits() -> None:
    async def check() -> None:
        async with counted() as (service, requests, client):
            accepted = ask(client, "/predict", 1.0)
            await begun(requests, 1)
            drain = Draining(service.model, requests, 600)
            drained = asyncio.ensure_future(drain.drain())
            await asyncio.sleep(0)
            drain.hurry()
            await drained
            assert (await accepted).status_code == 503

    asyncio.run(check())


def test_a_client_that_reads_nothing_holds_the_end_for_some_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "LAST_S", 0.1)

    async def check() -> None:
        async with running() as service:
            requests = OpenRequests(service.app)
            requests.count += 1
            await Draining(service.model, requests, 0.1).drain()
            assert requests.count == 1

    asyncio.run(check())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_servers_own_handler_comes_after_the_last_answer(number: signal.Signals) -> None:
    handled: list[tuple[int, int]] = []

    async def check() -> None:
        async with counted() as (service, requests, client):
            accepted = ask(client, "/predict", 0.05)
            await begun(requests, 1)
            end_gently(Draining(service.model, requests, 30), 30, give_up=str)
            os.kill(os.getpid(), number)
            # As `bentoml serve` does after a Ctrl-C.
            os.kill(os.getpid(), signal.SIGTERM)
            assert (await accepted).status_code == 200
            end = time.monotonic() + 10
            while not handled and time.monotonic() < end:
                await asyncio.sleep(0.005)

    before = {number: signal.getsignal(number) for number in ending.SIGNALS}
    try:
        for own in ending.SIGNALS:
            signal.signal(own, lambda number, frame: handled.append((number, 0)))
        asyncio.run(check())
    finally:
        for own, handler in before.items():
            signal.signal(own, handler)
    assert handled == [(number, 0)]
