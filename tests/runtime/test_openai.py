"""OpenAI's API over the application: what is asked of the runner, and how its answers look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from mlspec_runtime.generate.messages import ResponseFormat, TokenLogprobs
from mlspec_runtime.generate.openai.answers import ChatCompletion, Completion, TextOffsets, completion_logprobs
from mlspec_runtime.generate.openai.names import ModelNames
from mlspec_runtime.plan import PlanError
from runtime.bundles import limits
from runtime.chat_runner import ChatRunner
from runtime.services import Service, running

RUNNER = {"name": "chat", "module": "runtime.chat_runner", "settings": {}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def go(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[tuple[Service, ChatRunner]]:
    parts = {"runner": RUNNER, "endpoints": ["predict", "batch", "chat", "completions"], **changes}
    async with running(**parts) as service:
        assert isinstance(service.runner, ChatRunner)
        yield service, service.runner


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def chat(service: Service, text: str, **more: Any) -> dict[str, Any]:
    response = await service.client.post(CHAT, json=says(text, **more))
    assert response.status_code == 200, response.text
    ChatCompletion.model_validate_json(response.content, extra="forbid")
    answer: dict[str, Any] = response.json()
    return answer


def pieces_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The pieces of a stream that ended well."""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


async def refused(service: Service, path: str, status: int, field: str | None, **body: Any) -> dict[str, Any]:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, (body, response.text)
    error: dict[str, Any] = response.json()["error"]
    assert error.get("field") == field, (body, error)
    return error


def test_a_chat_is_answered() -> None:
    async def check() -> None:
        async with serving() as (service, _):
            response = await service.client.post(CHAT, json=says("one two"), headers={"X-Request-ID": "r1"})
            answer = response.json()
            assert answer.pop("created") > 1_700_000_000
            assert answer.pop("system_fingerprint").startswith("fp_")
            message = {"role": "assistant", "content": "one two", "refusal": None}
            assert answer == {
                "id": "chatcmpl-r1",
                "object": "chat.completion",
                "model": "demo",
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 2,
                    "completion_tokens": 2,
                    "total_tokens": 4,
                    "prompt_tokens_details": {"cached_tokens": 1},
                },
            }
            assert service.value('mlspec_requests_total{endpoint="chat",status="200"}') == 1
            assert service.value('mlspec_tokens_total{kind="completion"}') == 2

    go(check())


def test_a_streamed_chat_has_role_text_and_reason() -> None:
    async def check() -> None:
        async with serving() as (service, _):
            pieces = pieces_of(await service.client.post(CHAT, json=says("one zwölf", stream=True)))
            assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}
            assert len({(piece["id"], piece["created"], piece["model"]) for piece in pieces}) == 1
            assert [piece["choices"] for piece in pieces] == [
                [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
                for delta, reason in (
                    ({"role": "assistant", "content": "", "refusal": None}, None),
                    ({"content": "one"}, None),
                    ({"content": " zwölf"}, None),
                    ({}, "stop"),
                )
            ]
            assert all("usage" not in piece for piece in pieces)

    go(check())


def test_a_stream_tells_its_usage_if_asked() -> None:
    async def check() -> None:
        async with serving() as (service, _):
            body = says("one two", stream=True, n=2, stream_options={"include_usage": True})
            pieces = pieces_of(await service.client.post(CHAT, json=body))
            assert [piece["usage"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
            assert pieces[-1]["choices"] == []
            assert pieces[-1]["usage"]["completion_tokens"] == 4
            assert pieces[-1]["usage"]["prompt_tokens"] == 2

    go(check())


def test_a_stream_that_breaks_ends_with_an_error() -> None:
    async def check() -> None:
        async with serving() as (service, _):
            response = await service.client.post(CHAT, json=says("late one", stream=True))
            assert response.status_code == 200
            last = response.text.strip().split("\n\n")[-1]
            error = json.loads(last.removeprefix("data: "))["error"]
            assert (error["code"], error["type"], error["message"]) == ("engine_error", "server_error", "it broke")
            assert "[DONE]" not in response.text
            assert service.value('mlspec_errors_total{code="engine_error",endpoint="chat"}') == 1

    go(check())


@pytest.mark.parametrize("stream", [False, True])
def test_choices_have_indices_and_seeds_in_a_row(stream: bool) -> None:
    async def check() -> None:
        async with serving() as (service, runner):
            body = says("one two", n=3, seed=-1, temperature=1, stream=stream)
            response = await service.client.post(CHAT, json=body)
            if stream:
                texts = dict.fromkeys(range(3), "")
                for piece in pieces_of(response):
                    for choice in piece["choices"]:
                        texts[choice["index"]] += choice["delta"].get("content") or ""
                assert texts == dict.fromkeys(range(3), "one two")
            else:
                assert [choice["index"] for choice in response.json()["choices"]] == [0, 1, 2]
            assert [request.seed for request in runner.asked] == [2**63 - 1, 0, 1]

    go(check())


def test_what_is_asked_of_the_runner() -> None:
    async def check() -> None:
        async with serving() as (service, runner):
            more = {
                "model": "poet",
                "max_completion_tokens": 3,
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 4,
                "min_p": 0.1,
                "repetition_penalty": 1.1,
                "presence_penalty": 0.2,
                "frequency_penalty": -0.2,
                "logit_bias": {"7": -100},
                "seed": 5,
                "stop": "END",
                "logprobs": True,
                "top_logprobs": 2,
                "response_format": {"type": "json_object"},
                "user": "someone",
                "store": True,
                "metadata": {"a": "b"},
                "something_new": [1],
                "reasoning_effort": None,
                "modalities": ["text"],
            }
            await chat(service, "one", **more)
            asked = runner.asked[-1]
            expected = {name: value for name, value in more.items() if name in type(asked).model_fields}
            expected |= {"logprobs": 2, "stop": ["END"], "adapter": "poet", "max_tokens": 3}
            told = asked.model_dump(exclude_unset=True, exclude={"messages"})
            assert told == {**expected, "response_format": {"type": "json_object"}}
            await chat(service, "one", temperature=None, stop=None, n=None, stream=None, tools=None)
            assert runner.asked[-1].model_dump(exclude_unset=True, exclude={"messages"}) == {"adapter": "support"}

    go(check())


def test_conversations_are_translated() -> None:
    async def check() -> None:
        async with serving() as (service, runner):
            call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
            messages = [
                {"role": "developer", "content": "be short"},
                {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [call],
                    "refusal": None,
                    "reasoning_content": "hm",
                },
                {"role": "tool", "tool_call_id": "c1", "content": "three"},
            ]
            response = await service.client.post(CHAT, json={"messages": messages, "tools": [TOOL]})
            assert response.status_code == 200, response.text
            told = runner.asked[-1].model_dump(exclude_unset=True)
            assert told["messages"] == [
                {"role": "system", "content": "be short"},
                {"role": "user", "content": "one two"},
                {"role": "assistant", "tool_calls": [{"id": "c1", "name": "look", "arguments": "{}"}]},
                {"role": "tool", "content": "three", "tool_call_id": "c1"},
            ]
            assert told["tools"] == [{"name": "look", "parameters": {"type": "object"}}]

    go(check())


def test_tools_and_reasoning_whole_and_streamed() -> None:
    async def check() -> None:
        async with serving() as (service, runner):
            other = {"type": "function", "function": {"name": "other"}}
            answer = await chat(service, "think deep call x", tools=[TOOL, other])
            choice = answer["choices"][0]
            assert choice["finish_reason"] == "tool_calls"
            function = {"name": "look", "arguments": '{"text": "x"}'}
            first = {"id": "call_look", "type": "function", "function": function}
            assert choice["message"]["content"] is None
            assert choice["message"]["reasoning_content"] == "deep"
            assert choice["message"]["tool_calls"][0] == first
            assert len(choice["message"]["tool_calls"]) == 2

            body = says("think deep call x", tools=[TOOL, other], stream=True)
            deltas = [piece["choices"][0]["delta"] for piece in pieces_of(await service.client.post(CHAT, json=body))]
            assert deltas[1] == {"reasoning_content": "deep"}
            assert [call["index"] for call in deltas[2]["tool_calls"]] == [0, 1]
            assert deltas[2]["tool_calls"][0] == {"index": 0, **first}

            answer = await chat(service, "call x", tools=[TOOL, other], parallel_tool_calls=False)
            assert answer["choices"][0]["message"]["tool_calls"] == [first]
            assert runner.asked[-1].parallel_tool_calls is False
            chosen = {"type": "function", "function": {"name": "other"}}
            await chat(service, "call x", tools=[TOOL, other], tool_choice=chosen)
            assert runner.asked[-1].model_dump()["tool_choice"] == {"name": "other"}

    go(check())


def test_log_probabilities_in_both_shapes() -> None:
    async def check() -> None:
        async with serving() as (service, _):
            answer = await chat(service, "one two", logprobs=True, top_logprobs=2)
            content = answer["choices"][0]["logprobs"]["content"]
            top = [
                {"token": "one", "logprob": -0.5, "bytes": [111, 110, 101]},
                {"token": "zwölf", "logprob": -9999.0, "bytes": list("zwölf".encode())},
            ]
            assert content[0] == {**top[0], "top_logprobs": top}
            streamed = pieces_of(
                await service.client.post(CHAT, json=says("one two", stream=True, logprobs=True, top_logprobs=2))
            )
            told = [piece["choices"][0]["logprobs"] for piece in streamed]
            assert [one["content"][0] for one in told if one] == content

            body = {"prompt": "one two", "logprobs": 1}
            answer = (await service.client.post(COMPLETIONS, json=body)).json()
            shape = answer["choices"][0]["logprobs"]
            assert shape == {
                "tokens": ["one", " two"],
                "token_logprobs": [-0.5, -0.5],
                "top_logprobs": [{"one": -0.5}, {" two": -0.5}],
                "text_offset": [0, 3],
            }
            streamed = pieces_of(await service.client.post(COMPLETIONS, json={**body, "stream": True}))
            offsets = [piece["choices"][0]["logprobs"] for piece in streamed]
            assert [one["text_offset"] for one in offsets if one] == [[0], [3]]

    go(check())


def token_of(data: bytes) -> TokenLogprobs:
    text = data.decode("utf-8", "replace")
    return TokenLogprobs(token=1, text=text, bytes=list(data), logprob=-0.5, top=[])


def test_offsets_are_of_the_text_where_tokens_are_parts_of_characters() -> None:
    text, offsets = " für 🙂!", TextOffsets()
    tokens = [token_of(part) for part in (b" f", b"\xc3", b"\xbcr", b" \xf0\x9f", b"\x99", b"\x82", b"!")]
    told = [completion_logprobs(tokens[:3], offsets), completion_logprobs(tokens[3:], offsets)]
    begins = [begin for one in told for begin in one.text_offset]
    assert begins == [0, 2, 2, 4, 5, 5, 6]
    assert text[begins[-1] :] == "!"


def test_an_adapter_with_the_services_name_is_not_its_default() -> None:
    """A spec can't say that, a plan by hand can."""
    names = ModelNames("shop", "base", {"shop": "shop", "base": "base"})
    assert names.adapter(None) == "base"
    assert names.adapter("shop") == "shop"


def test_completions_of_several_prompts_and_echoes() -> None:
    async def check() -> None:
        async with serving() as (service, runner):
            response = await service.client.post(COMPLETIONS, json={"prompt": ["a b", "c"], "n": 2, "echo": True})
            answer = response.json()
            Completion.model_validate(answer, extra="forbid")
            assert answer["id"].startswith("cmpl-")
            assert answer["object"] == "text_completion"
            assert [choice["text"] for choice in answer["choices"]] == ["a ba b", "a ba b", "cc", "cc"]
            assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
            assert answer["usage"]["prompt_tokens"] == 3
            assert answer["usage"]["completion_tokens"] == 6
            assert all(request.raw for request in runner.asked)

            body = {"prompt": "a b", "echo": True, "stream": True}
            pieces = pieces_of(await service.client.post(COMPLETIONS, json=body))
            assert [piece["choices"][0]["text"] for piece in pieces] == ["a ba", " b", ""]
            assert pieces[-1]["choices"][0]["finish_reason"] == "stop"

    go(check())


def test_models_are_the_services_names() -> None:
    async def check() -> None:
        async with serving() as (service, runner):
            listed = (await service.client.get("/v1/models")).json()
            assert listed["object"] == "list"
            assert [model["id"] for model in listed["data"]] == ["demo", "base", "support", "poet"]
            one = await service.client.get("/v1/models/poet")
            assert one.json() == listed["data"][3]
            assert one.json()["owned_by"] == "tests"
            for model, adapter in (("demo", "support"), ("base", "base"), ("poet", "poet")):
                answer = await chat(service, "one", model=model)
                assert (answer["model"], runner.asked[-1].adapter) == (model, adapter)
            assert service.value('mlspec_requests_total{endpoint="model",status="200"}') == 1
            missing = await service.client.get("/v1/models/gpt-4")
            assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
            error = await refused(service, CHAT, 404, "model", **says("one", model="gpt-4"))
            assert error["type"] == "not_found_error"
            assert "gpt-4" not in error["message"]

    go(check())


CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "no JSON"}}
REFUSED: list[tuple[int, str | None, dict[str, Any]]] = [
    (422, "messages", {"messages": []}),
    (422, "messages.0.role", {"messages": [{"role": "function", "content": "x"}]}),
    (422, "messages.0.content", {"messages": [{"role": "user", "content": 5}]}),
    (422, "messages.0", {"messages": [{"role": "user"}]}),
    (400, "messages.0.content.0", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    (400, "messages.0.audio", {"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]}),
    (422, "messages.0.tool_calls.0.function.arguments", {"messages": [{"role": "assistant", "tool_calls": [CALL]}]}),
    (422, "max_tokens", says("one", max_tokens=65)),
    (422, "max_completion_tokens", says("one", max_completion_tokens=0)),
    (400, "max_tokens", says("one", max_tokens=1, max_completion_tokens=2)),
    (422, "temperature", says("one", temperature=11)),
    (422, "temperature", says("one", temperature="1")),
    (422, "stop", says("one", stop=5)),
    (422, "n", says("one", n=0)),
    (422, "n", says("one", n=5)),
    (400, "top_logprobs", says("one", top_logprobs=2)),
    (422, "top_logprobs", says("one", logprobs=True, top_logprobs=21)),
    (422, "response_format.type", says("one", response_format={})),
    (422, "tools.0.type", says("one", tools=[{"type": "custom"}])),
    (422, "tools.0.function.name", says("one", tools=[{"type": "function", "function": {"name": "a b"}}])),
    (422, "tool_choice", says("one", tool_choice="required")),
    (422, "tool_choice.type", says("one", tool_choice="sometimes")),
    (422, "response_format.type", says("one", response_format={"type": "xml"})),
    (400, "functions", says("one", functions=[{"name": "f"}])),
    (400, "audio", says("one", audio={"voice": "x"})),
    (400, "modalities", says("one", modalities=["text", "audio"])),
    (400, "reasoning_effort", says("one", reasoning_effort="high")),
    (400, "adapters", says("one", adapters="some/path")),
    (400, "messages", says("early")),
]


def test_what_is_wrong_is_named() -> None:
    async def check() -> None:
        async with serving(limits=limits(max_batch=4)) as (service, runner):
            for status, field, body in REFUSED:
                error = await refused(service, CHAT, status, field, **body)
                assert error["type"] == "invalid_request_error"
                assert error["operation"] == "chat"
            assert runner.asked == []

    go(check())


REFUSED_COMPLETIONS: list[tuple[int, str, dict[str, Any]]] = [
    (422, "prompt", {}),
    (422, "prompt", {"prompt": ""}),
    (422, "prompt", {"prompt": []}),
    (422, "prompt.1", {"prompt": ["a", ""]}),
    (422, "prompt", {"prompt": [1, 2]}),
    (422, "prompt", {"prompt": [[1, 2]]}),
    (422, "prompt", {"prompt": ["a"] * 5}),
    (422, "n", {"prompt": ["a", "b"], "n": 3}),
    (422, "logprobs", {"prompt": "a", "logprobs": 21}),
    (400, "suffix", {"prompt": "a", "suffix": "b"}),
    (400, "best_of", {"prompt": "a", "best_of": 2}),
    (422, "best_of", {"prompt": "a", "best_of": 0}),
    (400, "echo", {"prompt": "a", "echo": True, "logprobs": 1}),
]


def test_what_is_wrong_with_completions_is_named() -> None:
    async def check() -> None:
        async with serving(limits=limits(max_batch=4)) as (service, _):
            for status, field, body in REFUSED_COMPLETIONS:
                await refused(service, COMPLETIONS, status, field, **body)

    go(check())


def test_choices_fail_together_where_the_first_finds_no_room() -> None:
    async def check() -> None:
        slow = {**RUNNER, "settings": {"pause_s": 0.05}}
        async with serving(runner=slow, limits=limits(concurrency=1, queue=0)) as (service, runner):
            first = asyncio.create_task(service.client.post(CHAT, json=says("one two three")))
            while not runner.asked:
                await asyncio.sleep(0.01)
            response = await service.client.post(CHAT, json=says("one", n=2))
            assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
            assert response.json()["error"]["type"] == "rate_limit_error"
            assert "retry-after" in response.headers
            assert (await first).status_code == 200

    go(check())


def test_a_broken_choice_breaks_the_answer_and_frees_the_others() -> None:
    async def check() -> None:
        async with serving() as (service, runner):
            response = await service.client.post(CHAT, json=says("late one two three", n=3))
            assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_error")
            while runner.stats().running or runner.stats().waiting:
                await asyncio.sleep(0.01)

    go(check())


def test_endpoints_that_are_not_asked_for_are_not_there() -> None:
    async def check() -> None:
        async with serving(endpoints=["completions"]) as (service, _):
            assert (await service.client.post(CHAT, json=says("one"))).status_code == 404
            assert (await service.client.post(COMPLETIONS, json={"prompt": "one"})).status_code == 200
            assert (await service.client.get("/v1/models")).status_code == 200
        async with serving(endpoints=["predict"]) as (service, _):
            assert (await service.client.get("/v1/models")).status_code == 404
            assert not [path for path in (await service.client.get("/docs.json")).json()["paths"] if "/v1" in path]

    go(check())


def test_a_runner_of_other_requests_has_no_such_endpoints() -> None:
    async def check() -> None:
        async with running(endpoints=["chat"]):
            raise AssertionError("it should not start")

    with pytest.raises(PlanError, match="leave 'chat' and 'completions' out"):
        go(check())


def test_the_document_knows_the_types() -> None:
    async def check() -> None:
        async with serving() as (service, _):
            document = (await service.client.get("/docs.json")).json()
            chat = document["paths"][CHAT]["post"]
            assert {"200", "400", "404", "422", "429", "503"} <= set(chat["responses"])
            assert {"application/json", "text/event-stream"} == set(chat["responses"]["200"]["content"])
            schemas = document["components"]["schemas"]
            # A tool would hold a schema against each event.
            assert chat["responses"]["200"]["content"]["text/event-stream"] == {}
            assert schemas["ChatRequest"]["properties"]["temperature"]["maximum"] == 10
            assert schemas["CompletionRequest"]["properties"]["best_of"]["anyOf"][0]["minimum"] == 1
            assert schemas["CompletionRequest"]["properties"]["prompt"]["anyOf"][0]["minLength"] == 1
            content = document["components"]["schemas"]["ChatMessage"]["properties"]["content"]
            assert {"type": "string"} in json.loads(json.dumps(content))["anyOf"]

    go(check())


def test_the_document_allows_the_formats_that_are_taken_and_no_other() -> None:
    whole = {"type": "json_schema", "json_schema": {"schema": {}}}
    taken = [{"type": "text"}, {"type": "json_object", "json_schema": None}, whole]
    refused = [{}, {**whole, "type": "text"}, {"type": "json_schema"}, {**whole, "json_schema": None}]
    schema = Draft202012Validator(ResponseFormat.model_json_schema())
    for given in (*taken, *refused):
        try:
            ResponseFormat.model_validate(given)
        except ValidationError:
            assert given in refused
            assert not schema.is_valid(given)
        else:
            assert given in taken
            assert schema.is_valid(given)
