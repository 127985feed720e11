"""The mailbox of a request, and an exchange around it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Message

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.exchange import STRAIGHT_SEND, EventStream, Exchange
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import parse_plan
from mlspec_runtime.request_info import RequestInfo
from mlspec_runtime.submission import Item, Output, Submission, deliver
from runtime.bundles import runtime_block


class Word(BaseModel):
    text: str


class Asked:
    """A runner whose submissions the test fills."""

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.cancelled: list[Submission] = []

    async def submit(self, request: Any, request_id: str, *, stream: bool) -> Submission:
        self.submissions.append(Submission(request_id, stream=stream))
        return self.submissions[-1]

    def cancel(self, submission: Submission) -> None:
        self.cancelled.append(submission)


class Connection:
    """A client that stays until it leaves, and what was sent to it."""

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self.sent: list[Message] = []
        self.straight: list[Message] = []
        state = {"info": RequestInfo("id", "stream", time.monotonic())}
        self.scope: dict[str, Any] = {"type": "http", "headers": [], "state": state, STRAIGHT_SEND: self.send_straight}
        self.request = Request(self.scope, self.receive)

    async def receive(self) -> Message:
        await self.leaving.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def send_straight(self, message: Message) -> None:
        self.straight.append(message)


def metrics() -> Metrics:
    return Metrics(parse_plan({"runtime": runtime_block()}), CollectorRegistry())


def word(text: str, final: bool = False) -> Output:
    return Output("done" if final else "word", Word(text=text), final=final)


def run(test: Callable[[], Any]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 10)

    asyncio.run(bounded())


def test_what_came_of_many_requests_wakes_the_loop_once() -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        woken: list[object] = []
        real = loop.call_soon_threadsafe

        def counted(callback: Callable[..., object], *args: Any) -> Any:
            woken.append(callback)
            return real(callback, *args)

        cast(Any, loop).call_soon_threadsafe = counted
        ones = [Submission(str(n)) for n in range(8)]
        thread = threading.Thread(target=deliver, args=([(one, word(one.request_id)) for one in ones],))
        thread.start()
        thread.join()
        assert [(await one.output()).data for one in ones] == [Word(text=str(n)) for n in range(8)]
        assert len(woken) == 1

    run(check)


def test_listeners_hear_of_all_in_order_before_it_is_read() -> None:
    async def check() -> None:
        one, heard = Submission("a"), list[Item]()
        one.put(word("early"))
        await asyncio.sleep(0)
        one.listen(heard.append)
        assert heard == [word("early")]
        failure = ServiceError("engine_error", "lost", 500)
        deliver([(one, word("late")), (one, failure)])
        assert await one.output() == word("early")
        assert await one.output() == word("late")
        assert heard == [word("early"), word("late"), failure]
        with pytest.raises(ServiceError, match="lost"):
            await one.output()
        assert one.ready() is None

    run(check)


def test_a_loop_that_has_ended_is_no_trouble() -> None:
    async def make() -> Submission:
        return Submission("a")

    asyncio.run(make()).put(word("to nobody"))


@pytest.mark.parametrize(("leaves", "code"), [(True, "client_left"), (False, "deadline_exceeded")])
def test_who_waits_is_told_of_the_end_and_listeners_are_not(leaves: bool, code: str) -> None:
    async def check() -> None:
        runner, client, heard = Asked(), Connection(), list[Item]()
        exchange = Exchange(runner, client.request, metrics(), timeout_s=600 if leaves else 0.5)
        await exchange.begin(Word(text="?"), stream=True)
        runner.submissions[0].listen(heard.append)
        runner.submissions[0].put(word("one"))
        assert await exchange.output() == word("one")
        if leaves:
            client.leaving.set()
        with pytest.raises(ServiceError) as ended:
            await exchange.output()
        assert ended.value.code == code
        await exchange.close()
        assert runner.cancelled == runner.submissions
        assert heard == [word("one")]

    run(check)


def test_an_end_before_the_runner_has_taken_the_request() -> None:
    class Slow(Asked):
        async def submit(self, request: Any, request_id: str, *, stream: bool) -> Submission:
            await asyncio.sleep(600)
            raise AssertionError("cancelled before")

    async def check() -> None:
        exchange = Exchange(Slow(), Connection().request, metrics(), timeout_s=0.02)
        with pytest.raises(ServiceError, match="no whole answer"):
            await exchange.begin(Word(text="?"), stream=False)
        await exchange.close()

    run(check)


def test_a_place_is_freed_even_if_the_waiter_is_cancelled_as_it_gets_it() -> None:
    async def check() -> None:
        runner = Asked()
        exchange = Exchange(runner, Connection().request, metrics(), timeout_s=600)
        waiting = asyncio.ensure_future(exchange.begin(Word(text="?"), stream=False))
        while not runner.submissions:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await exchange.close()
        assert runner.cancelled == runner.submissions

    run(check)


def test_pieces_that_wait_go_out_together_and_straight_and_the_last_one_through_all_layers() -> None:
    async def check() -> None:
        runner, client = Asked(), Connection()
        exchange = Exchange(runner, client.request, metrics(), timeout_s=600)
        await exchange.begin(Word(text="?"), stream=True)
        (submission,) = runner.submissions
        submission.put(word("a"))
        stream = EventStream(exchange, await exchange.output())
        deliver([(submission, word("b")), (submission, word("c"))])
        sending = asyncio.ensure_future(stream(client.scope, client.receive, client.send))
        while len(client.straight) < 1:
            await asyncio.sleep(0)
        submission.put(word("end", final=True))
        await sending
        pieces = b"".join(message["body"] for message in client.straight)
        assert pieces.count(b"event: word\n") == 3
        assert pieces.startswith(b'event: word\ndata: {"text":"a"}\n\n')
        assert [message["type"] for message in client.sent] == ["http.response.start", "http.response.body"]
        assert client.sent[1]["body"] == b'event: done\ndata: {"text":"end"}\n\n'
        assert not client.sent[1]["more_body"]
        assert all(message["more_body"] for message in client.straight)

    run(check)


def test_an_error_within_a_stream_is_its_last_event_after_what_came_before() -> None:
    async def check() -> None:
        runner, client = Asked(), Connection()
        exchange = Exchange(runner, client.request, metrics(), timeout_s=600)
        await exchange.begin(Word(text="?"), stream=True)
        stream = EventStream(exchange, word("a"))
        deliver(
            [(runner.submissions[0], word("b")), (runner.submissions[0], ServiceError("engine_error", "lost", 500))]
        )
        await asyncio.sleep(0)
        await stream(client.scope, client.receive, client.send)
        sent = b"".join(message.get("body", b"") for message in (*client.straight, *client.sent))
        names = [line for line in sent.split(b"\n") if line.startswith(b"event")]
        assert names == [b"event: word", b"event: word", b"event: error"]
        assert runner.cancelled == runner.submissions

    run(check)


def test_without_a_way_past_the_layers_all_goes_through_them() -> None:
    async def check() -> None:
        runner, client = Asked(), Connection()
        exchange = Exchange(runner, client.request, metrics(), timeout_s=600)
        await exchange.begin(Word(text="?"), stream=True)
        runner.submissions[0].put(word("end", final=True))
        scope = {name: value for name, value in client.scope.items() if name != STRAIGHT_SEND}
        await EventStream(exchange, word("a"))(scope, client.receive, client.send)
        assert not client.straight
        assert SimpleNamespace(**client.sent[-1]).more_body is False

    run(check)
