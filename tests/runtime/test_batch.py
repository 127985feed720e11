"""/predict/batch: answers in order, rows that fail alone, no more in the runner than allowed, one deadline for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from runtime.bundles import limits
from runtime.chat_runner import ChatRunner
from runtime.echo_runner import EchoRunner
from runtime.services import Service, running
from runtime.test_openai import go

BATCH = "/predict/batch"


def chat(**settings: Any) -> Mapping[str, Any]:
    return {"runner": {"name": "chat", "module": "runtime.chat_runner", "settings": settings}}


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[Service]:
    async with running(**{"endpoints": ["predict", "batch"], **changes}) as service:
        yield service


async def ask(service: Service, *inputs: Any) -> list[dict[str, Any]]:
    response = await service.client.post(BATCH, json={"inputs": list(inputs)})
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"outputs"}
    outputs: list[dict[str, Any]] = response.json()["outputs"]
    return outputs


async def idle(runner: Any) -> None:
    while runner.stats().running or runner.stats().waiting:
        await asyncio.sleep(0.005)


def test_a_batch_answers_in_order() -> None:
    async def check() -> None:
        async with serving() as service:
            outputs = await ask(service, *({"text": f"number {n}"} for n in range(20)))
            assert outputs == [{"text": f"number {n}", "words": 2} for n in range(20)]
            assert service.value('mlspec_requests_total{endpoint="batch",status="200"}') == 1
            assert service.value('mlspec_tokens_total{kind="completion"}') == 40

    go(check())


def test_a_bad_row_fails_alone_with_its_place() -> None:
    async def check() -> None:
        async with serving() as service:
            rows = [{"text": "one"}, {"text": ""}, {"text": "two", "fail": "known"}, "three", {"text": "four"}]
            rows += [{"text": "five", "fail": "late"}, {"text": "six", "fail": "unknown"}]
            headers = {"X-Request-ID": "r1"}
            response = await service.client.post(BATCH, json={"inputs": rows}, headers=headers)
            assert response.status_code == 200
            outputs = response.json()["outputs"]
            assert [output.get("text") for output in outputs] == ["one", None, None, None, "four", None, None]
            errors = {row: output["error"] for row, output in enumerate(outputs) if "error" in output}
            told = {row: (error["code"], error.get("field")) for row, error in errors.items()}
            assert told == {
                1: ("invalid_request", "inputs.1.text"),
                2: ("too_loud", "inputs.2.text"),
                3: ("invalid_request", "inputs.3"),
                5: ("engine_error", "inputs.5"),
                6: ("internal", "inputs.6"),
            }
            assert {(error["operation"], error["request_id"]) for error in errors.values()} == {("batch", "r1")}
            assert service.value('mlspec_errors_total{code="invalid_request",endpoint="batch"}') == 2
            assert "secret" not in response.text

    go(check())


def test_rows_that_are_all_bad_ask_nothing() -> None:
    async def check() -> None:
        async with serving() as service:
            assert [output["error"]["field"] for output in await ask(service, {}, {"text": 1})] == [
                "inputs.0.text",
                "inputs.1.text",
            ]

    go(check())


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"inputs": [{"text": "one"}] * 5}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": {"text": "one"}}, "inputs"),
        ({}, "inputs"),
        ({"inputs": [{"text": "one"}], "more": 1}, "more"),
    ],
)
def test_a_body_that_is_no_batch_is_refused(body: Any, field: str) -> None:
    async def check() -> None:
        async with serving(limits=limits(max_batch=4)) as service:
            response = await service.client.post(BATCH, json=body)
            assert (response.status_code, response.json()["error"]["field"]) == (422, field)

    go(check())


def test_no_more_rows_are_in_the_runner_than_are_computed_at_once() -> None:
    async def check() -> None:
        async with serving(**chat(), limits=limits(concurrency=3, queue=50)) as service:
            outputs = await ask(service, *({"prompt": f"number {n}"} for n in range(30)))
            assert [output["text"] for output in outputs] == [f"number {n}" for n in range(30)]
            assert isinstance(service.runner, ChatRunner)
            assert service.runner.most_at_once == 3

    go(check())


def test_rows_wait_for_room_once_the_first_is_in() -> None:
    async def check() -> None:
        async with serving(**chat(pause_s=0.01), limits=limits(concurrency=2, queue=1)) as service:
            batches = [ask(service, *({"prompt": f"{b} {n}"} for n in range(8))) for b in range(2)]
            for b, outputs in enumerate(await asyncio.gather(*batches)):
                assert [output["text"] for output in outputs] == [f"{b} {n}" for n in range(8)]

    go(check())


def test_a_batch_whose_first_row_finds_no_room_is_refused() -> None:
    async def check() -> None:
        async with serving(**chat(pause_s=0.05), limits=limits(concurrency=1, queue=0)) as service:
            first = asyncio.create_task(ask(service, {"prompt": "one two three"}))
            while not service.runner.stats().running:
                await asyncio.sleep(0.005)
            response = await service.client.post(BATCH, json={"inputs": [{"prompt": "four"}]})
            assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
            assert (await first)[0]["text"] == "one two three"

    go(check())


def test_the_deadline_is_that_of_all_and_keeps_what_is_there() -> None:
    async def check() -> None:
        async with serving(limits=limits(timeout_s=0.6)) as service:
            outputs = await ask(service, {"text": "one"}, {"text": "two three", "pause_s": 0.5}, {"text": "four"})
            assert outputs[0]["text"] == "one"
            assert [output["error"]["code"] for output in outputs[1:]] == ["deadline_exceeded"] * 2
            await idle(service.runner)

    go(check())


def test_a_client_that_leaves_ends_its_rows() -> None:
    async def check() -> None:
        async with serving(limits=limits(queue=50)) as service:
            rows = [{"text": "one two three four", "pause_s": 0.05}] * 5
            body = httpx.Request("POST", "http://service" + BATCH, json={"inputs": rows})
            gone = asyncio.Event()
            messages = iter([{"type": "http.request", "body": body.content, "more_body": False}])

            async def receive() -> dict[str, Any]:
                for message in messages:
                    return message
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                pass

            scope = {
                "type": "http",
                "method": "POST",
                "path": BATCH,
                "query_string": b"",
                "headers": [(b"content-type", b"application/json")],
            }
            asked = asyncio.ensure_future(service.app(scope, receive, send))
            while not service.runner.stats().running:
                await asyncio.sleep(0.005)
            gone.set()
            await asked
            await idle(service.runner)
            assert isinstance(service.runner, EchoRunner)
            assert len(service.runner.stopped) == 1
            assert service.value('mlspec_errors_total{code="client_left",endpoint="batch"}') == 1

    go(check())


def test_the_document_knows_the_types() -> None:
    async def check() -> None:
        async with serving() as service:
            document = (await service.client.get("/docs.json")).json()
            schemas = document["components"]["schemas"]
            inputs = schemas["BatchRequest"]["properties"]["inputs"]
            assert inputs["items"] == {"$ref": "#/components/schemas/EchoRequest"}
            assert (inputs["minItems"], inputs["maxItems"]) == (1, 64)
            outputs = schemas["BatchResponse"]["properties"]["outputs"]["items"]["anyOf"]
            assert [one["$ref"].rpartition("/")[2] for one in outputs] == ["EchoResponse", "ErrorBody"]

    go(check())
