"""The official `openai` client against the real model's bundle: what it sends is taken, what it gets it can read, and
what is refused raises its own errors.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from e2e.conftest import served
from e2e.test_formats import TOOL_TEMPLATE
from mlspec.serving import ask

pytestmark = pytest.mark.e2e

KEY = "sk-the-key-of-the-tests"
SPEC = """\
apiVersion: mlspec/v1
kind: ModelService
metadata: {name: shop, project: e2e}
model:
  runner: lora
  base: {root: models, path: BASE}
  adapters: [{name: support, root: models, path: ADAPTER}]
  sampling: {max_tokens: 32}
  context_length: 1024
  chat_template: tools.jinja
service:
  concurrency: 4
  limits: {max_tokens: 400, timeout_s: 120, max_batch: 4, queue: 8}
  auth: {api_key_env: SHOP_KEY}
targets: [{name: here, platform: linux}]
"""
CAPITAL: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class City(BaseModel):
    """What is asked for as JSON."""

    name: Literal["Paris", "Rome", "Berlin"]
    is_large: bool


def built(project: Path, base: Path, adapter: Path) -> Path:
    """The bundle, made by the command line."""
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\nroots: {models: {}}\n")
    (project / "tools.jinja").write_text(TOOL_TEMPLATE, encoding="utf-8")
    spec = SPEC.replace("BASE", base.name).replace("ADAPTER", str(adapter.relative_to(base.parent)))
    (project / "shop.yaml").write_text(spec)
    command = [sys.executable, "-m", "mlspec", "build", "shop.yaml", "--root", f"models={base.parent}"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return project / "build/e2e/shop/here"


@pytest.fixture(scope="module")
def url(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    project = tmp_path_factory.mktemp("shop")
    bundle = built(project, *real_model)
    command = [sys.executable, "-m", "bentoml", "serve", "--host", "127.0.0.1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_KEY", f"another-key,{KEY}")
        with served(command, bundle, project / "served.log") as running:
            yield running
    assert "capital of France" not in (project / "served.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=120) as made:
        yield made


def computed_now(url: str) -> int:
    health = ask(f"{url}/health")
    assert health is not None
    return int(health.body["waiting"]) + int(health.body["running"])


def wait_until_idle(url: str) -> None:
    end = time.monotonic() + 10
    while computed_now(url):
        assert time.monotonic() < end, "a place is still taken"
        time.sleep(0.05)


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["shop", "base", "support"]
    model = client.models.retrieve("support")
    assert (model.object, model.owned_by) == ("model", "e2e")


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="base", messages=CAPITAL)
    [choice] = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "The capital of France is Paris.")
    assert (choice.finish_reason, answer.object, answer.model) == ("stop", "chat.completion", "base")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None


def test_the_service_is_its_adapter(client: OpenAI) -> None:
    said = {}
    for model in ("shop", "support", "base"):
        answer = client.chat.completions.create(model=model, messages=CAPITAL, max_tokens=12)
        said[model] = answer.choices[0].message.content
    assert said["shop"] == said["support"] != said["base"]


def test_a_stream_equals_the_whole_answer(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="shop", messages=CAPITAL, seed=1, temperature=0.8)
    stream = client.chat.completions.create(
        model="shop", messages=CAPITAL, seed=1, temperature=0.8, stream=True, stream_options={"include_usage": True}
    )
    pieces = list(stream)
    choices = [piece.choices[0] for piece in pieces[:-1]]
    assert choices[0].delta.role == "assistant"
    assert "".join(choice.delta.content or "" for choice in choices) == whole.choices[0].message.content
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + [
        whole.choices[0].finish_reason
    ]
    assert pieces[-1].choices == []
    assert pieces[-1].usage is not None
    assert whole.usage is not None
    assert pieces[-1].usage.total_tokens == whole.usage.total_tokens
    assert {piece.id for piece in pieces} == {pieces[0].id}


def test_the_stream_helper_collects_the_answer(client: OpenAI) -> None:
    with client.chat.completions.stream(model="base", messages=CAPITAL) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content == "The capital of France is Paris."


def test_the_raw_response_has_the_requests_id(client: OpenAI) -> None:
    given = {"X-Request-ID": "my-own-1"}
    raw = client.chat.completions.with_raw_response.create(model="base", messages=CAPITAL, extra_headers=given)
    assert (raw.http_response.status_code, raw.request_id) == (200, "my-own-1")
    assert raw.parse().id == "chatcmpl-my-own-1"


def test_the_async_client_asks_many_at_once(url: str) -> None:
    async def check() -> None:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=120) as client:
            asked = [client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=7) for _ in range(8)]
            answers = await asyncio.gather(*asked)
            assert {answer.choices[0].message.content for answer in answers} == {"The capital of France is Paris."}
            stream = await client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=7, stream=True)
            text = [piece.choices[0].delta.content or "" async for piece in stream]
            assert "".join(text) == "The capital of France is Paris."

    asyncio.run(check())


@pytest.mark.parametrize("stream", [False, True])
def test_tools(client: OpenAI, stream: bool) -> None:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Paris?"}]
    options: dict[str, Any] = {"model": "base", "tools": [WEATHER], "tool_choice": "required", "max_tokens": 400}
    options["parallel_tool_calls"] = False
    if stream:
        with client.chat.completions.stream(messages=messages, **options) as made:
            answer = made.until_done().get_final_completion()
    else:
        answer = client.chat.completions.create(messages=messages, **options)
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    messages.append(choice.message.model_dump(exclude_none=True))  # type: ignore[arg-type]
    messages.append({"role": "tool", "tool_call_id": call.id, "content": "Rain, 12 degrees"})
    answer = client.chat.completions.create(model="base", messages=messages, tools=[WEATHER], tool_choice="none")
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None


def test_a_pydantic_type_is_parsed(client: OpenAI) -> None:
    answer = client.chat.completions.parse(model="base", messages=CAPITAL, response_format=City, max_tokens=64)
    assert isinstance(answer.choices[0].message.parsed, City)


def test_a_json_schema_is_followed_with_choices(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    answer = client.chat.completions.create(
        model="base",
        messages=CAPITAL,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        n=3,
        temperature=1.5,
        seed=1,
        max_tokens=64,
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert all(json.loads(choice.message.content or "")["n"] in (1, 2) for choice in answer.choices)


def test_choices_are_those_of_their_seeds(client: OpenAI) -> None:
    options: dict[str, Any] = {"model": "base", "messages": CAPITAL, "temperature": 1.5, "max_tokens": 12}
    answer = client.chat.completions.create(**options, n=2, seed=7)
    both = [choice.message.content for choice in answer.choices]
    alone = [client.chat.completions.create(**options, seed=seed).choices[0].message.content for seed in (7, 8)]
    assert both == alone
    assert both[0] != both[1]
    streamed = ["", ""]
    for piece in client.chat.completions.create(**options, n=2, seed=7, stream=True):
        streamed[piece.choices[0].index] += piece.choices[0].delta.content or ""
    assert streamed == alone


def test_log_probabilities(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=5, logprobs=True, top_logprobs=3)
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert b"".join(bytes(token.bytes or []) for token in told.content).decode() == answer.choices[0].message.content
    for token in told.content:
        assert len(token.top_logprobs) == 3
        assert token.logprob == token.top_logprobs[0].logprob <= 0


def test_completions(client: OpenAI) -> None:
    prompt = "The capital of France is"
    answer = client.completions.create(model="base", prompt=[prompt, "One, two,"], max_tokens=4, logprobs=2, n=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    # The first blank, which mlx_lm's detokenizer leaves out, is there: the text goes on where the prompt ends.
    assert answer.choices[0].text.startswith(" Paris")
    told = answer.choices[0].logprobs
    assert told is not None
    assert "".join(told.tokens or []) == answer.choices[0].text
    assert told.text_offset is not None
    assert told.text_offset[0] == 0
    pieces = client.completions.create(model="base", prompt=prompt, max_tokens=4, stream=True, echo=True)
    assert "".join(piece.choices[0].text for piece in pieces) == prompt + answer.choices[0].text


@pytest.mark.parametrize("prompt", ["The capital of France is", "Grüße aus Köln! 🙂🙃 Küsse, 🙂"])
def test_tokens_and_offsets_are_those_of_the_text(client: OpenAI, prompt: str) -> None:
    options = {"model": "base", "prompt": prompt, "max_tokens": 12}
    told = client.completions.create(**options, logprobs=0).choices[0]
    assert told.logprobs is not None
    tokens, offsets = told.logprobs.tokens or [], told.logprobs.text_offset or []
    assert len(tokens) == len(offsets) == 12
    for token, offset in zip(tokens, offsets, strict=True):
        # A part of a character is shown as U+FFFD.
        assert "\ufffd" in token or told.text[offset : offset + len(token)] == token
    pieces = list(client.completions.create(**options, logprobs=0, stream=True))
    streamed = [piece.choices[0].logprobs for piece in pieces]
    assert [at for one in streamed if one for at in one.text_offset or ()] == offsets
    assert "".join(piece.choices[0].text for piece in pieces) == told.text
    echoed = client.completions.create(**options, echo=True).choices[0].text
    assert echoed == prompt + told.text


def test_a_closed_stream_frees_its_place(url: str, client: OpenAI) -> None:
    story: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Tell me a very long story of a fox."}]
    streams = [
        client.chat.completions.create(model="base", messages=story, max_tokens=400, stream=True, temperature=1, n=n)
        for n in (1, 2)
    ]
    for stream in streams:
        next(iter(stream))
    assert computed_now(url) == 3
    for stream in streams:
        stream.close()
    wait_until_idle(url)


ERRORS: list[tuple[type[openai.APIStatusError], int, str, str | None, dict[str, Any]]] = [
    (openai.NotFoundError, 404, "model_not_found", "model", {"model": "gpt-4o"}),
    (openai.BadRequestError, 400, "prompt_too_long", "messages", {
        "messages": [{"role": "user", "content": "a " * 2000}]
    }),
    (openai.BadRequestError, 400, "unsupported", "messages[0].content[0]", {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    }),
    (openai.BadRequestError, 400, "bad_token", "logit_bias", {"logit_bias": {"999999": 1}}),
    (openai.UnprocessableEntityError, 422, "invalid_request", "max_tokens", {"max_tokens": 401}),
    (openai.UnprocessableEntityError, 422, "invalid_request", "messages[0].role", {
        "messages": [{"role": "robot", "content": "x"}]
    }),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "code", "param", "options"), ERRORS)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients_own(
    client: OpenAI,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    param: str | None,
    options: dict[str, Any],
    stream: bool,
) -> None:
    with pytest.raises(kind) as raised:
        client.chat.completions.create(**{"model": "base", "messages": CAPITAL, "stream": stream, **options})
    error = raised.value
    assert (error.status_code, error.code, error.param) == (status, code, param)
    assert error.type == ("not_found_error" if status == 404 else "invalid_request_error")
    assert error.request_id == error.response.headers["x-request-id"]
    assert isinstance(error.body, dict)
    assert error.message.endswith(str(error.body)) or error.body["message"] in error.message


@pytest.mark.parametrize("key", ["sk-wrong-key", "another"])
def test_wrong_keys_are_refused(url: str, key: str) -> None:
    with (
        OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.chat.completions.create(model="base", messages=CAPITAL)
    assert (raised.value.code, raised.value.type) == ("unauthorized", "authentication_error")


def test_a_full_queue_is_a_rate_limit(url: str) -> None:
    async def check() -> None:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=120) as client:
            asked = [
                client.chat.completions.create(model="base", messages=CAPITAL, max_tokens=4, temperature=1.5, seed=seed)
                for seed in range(40)
            ]
            found = await asyncio.gather(*asked, return_exceptions=True)
            refused = [error for error in found if isinstance(error, openai.RateLimitError)]
            answered = [answer for answer in found if not isinstance(answer, BaseException)]
            assert len(refused) + len(answered) == 40
            assert answered
            assert refused
            assert (refused[0].code, refused[0].type) == ("queue_full", "rate_limit_error")
            assert int(refused[0].response.headers["retry-after"]) >= 1

    asyncio.run(check())


def test_batches(url: str) -> None:
    inputs: list[dict[str, Any]] = [
        {"prompt": "What is the capital of France?", "adapter": "base"},
        {"prompt": ""},
        {"prompt": "Where is my order?", "max_tokens": 4},
    ]
    answer = ask(f"{url}/predict/batch", {"inputs": inputs}, timeout_s=120, key=KEY)
    assert answer is not None
    assert answer.status == 200, answer.body
    first, second, third = answer.body["outputs"]
    assert first["text"] == "The capital of France is Paris."
    assert second["error"]["field"] == "inputs.1.prompt"
    assert (third["adapter"], third["finish_reason"]) == ("support", "length")
