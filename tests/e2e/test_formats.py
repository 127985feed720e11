"""Answers of a form from SmolLM2: JSON of schemas, forced calls of tools, log probabilities, in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlspec.runners.mlx_lm import runtime
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateResponse, TokenEvent
from mlspec_runtime.plan import Limits
from mlspec_runtime.protocol import RunnerContext
from runtime.bundles import limits, mlx_settings

pytestmark = pytest.mark.e2e

TOOL_TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\nYou call functions. Answer with <tool_call>{"name": …}</tool_call>.\\n' }}
{%- for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for tool_call in message.tool_calls or [] %}
{%- set tool_call = tool_call.function %}
{{- '<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
{{- tool_call.arguments | tojson + '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
CLOSED = {"additionalProperties": False}
CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], **CLOSED}
SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": {"enum": ["yes", "no", "perhaps"]},
    "object": {
        "type": "object",
        "properties": {
            "capital": {"type": "string", "maxLength": 30},
            "inhabitants": {"type": "integer", "minimum": 1, "maximum": 100_000_000},
            "is_large": {"type": "boolean"},
        },
        "required": ["capital", "inhabitants", "is_large"],
        **CLOSED,
    },
    "nested": {
        "type": "object",
        "properties": {
            "country": {"type": "object", "properties": {"capital": CITY}, "required": ["capital"], **CLOSED}
        },
        "required": ["country"],
        **CLOSED,
    },
    "array": {"type": "array", "items": {"enum": ["Paris", "Lyon", "Nice"]}, "minItems": 2, "maxItems": 3},
    # Of any number of digits a small model writes without end.
    "number": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25},
    "defs": {
        "$defs": {"point": {"type": "array", "prefixItems": [{"type": "integer"}] * 2, "items": False, "minItems": 2}},
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/point"}},
        "required": ["at"],
        **CLOSED,
    },
}
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in JSON."}]
WEATHER = {"name": "get_weather", "description": "The weather of a city.", "parameters": CITY}
CLOCK = {
    "name": "get_time",
    "parameters": {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, **CLOSED},
}


def make_runner(base: Path, bundle: Path, **settings: Any) -> runtime.MlxLmRunner:
    context = RunnerContext(
        "generate",
        mlx_settings({}, dtype="float32", **settings),
        Limits(**limits(max_tokens=256)),
        bundle,
        lambda stats: None,
    )
    runner = runtime.create(context)
    runner.load({"base": base})
    return runner


@pytest.fixture(scope="module")
def runner(real_model: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[runtime.MlxLmRunner]:
    bundle = tmp_path_factory.mktemp("bundle")
    (bundle / "chat.jinja").write_text(TOOL_TEMPLATE, encoding="utf-8")
    made = make_runner(real_model[0], bundle, chat_template="chat.jinja")
    yield made
    made.close()


async def events_of(runner: runtime.MlxLmRunner, body: Mapping[str, Any]) -> tuple[list[TokenEvent], GenerateResponse]:
    request = runner.request_type.model_validate({"max_tokens": 96, **body})
    submission = await runner.submit(request, "test", stream=True)  # type: ignore[arg-type]
    events = []
    while not (output := await submission.output()).final:
        assert isinstance(output.data, TokenEvent)
        events.append(output.data)
    assert isinstance(output.data, GenerateResponse)
    return events, output.data


def answers(runner: runtime.MlxLmRunner, bodies: Sequence[Mapping[str, Any]]) -> list[GenerateResponse]:
    """The answers to requests that are computed at once. What was streamed must be what is answered."""

    async def together() -> list[tuple[list[TokenEvent], GenerateResponse]]:
        return await asyncio.gather(*(events_of(runner, body) for body in bodies))

    both = asyncio.run(together())
    for events, answer in both:
        assert "".join(event.text for event in events) == answer.text
        assert "".join(event.reasoning for event in events) == (answer.reasoning or "")
        assert [call for event in events for call in event.tool_calls] == answer.tool_calls
        assert [told for event in events for told in event.logprobs or []] == (answer.logprobs or [])
    return [answer for _, answer in both]


def json_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "seed": 3}])
def test_answers_follow_their_schemas_beside_each_other(runner: runtime.MlxLmRunner, sampling: dict[str, Any]) -> None:
    bodies = [{"messages": QUESTION, "response_format": json_schema(s), **sampling} for s in SCHEMAS.values()]
    plain = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
    *found, beside = answers(runner, [*bodies, plain])
    for schema, answer in zip(SCHEMAS.values(), found, strict=True):
        assert answer.finish_reason == "stop"
        Draft202012Validator(schema).validate(json.loads(answer.text))
    assert beside.text == "The capital of France is Paris."


def test_a_repeated_seed_gives_the_same_answer_whatever_is_beside_it(runner: runtime.MlxLmRunner) -> None:
    body = {"messages": QUESTION, "response_format": json_schema(SCHEMAS["object"]), "temperature": 1, "seed": 9}
    [alone] = answers(runner, [body])
    assert answers(runner, [{**body, "seed": 1}, body, {**body, "seed": 2}])[1].text == alone.text


def test_some_object(runner: runtime.MlxLmRunner) -> None:
    [answer] = answers(runner, [{"messages": QUESTION, "response_format": {"type": "json_object"}}])
    assert answer.finish_reason == "length" or isinstance(json.loads(answer.text), dict)


def test_the_length_may_cut_a_format_and_a_stop_text_ends_it(runner: runtime.MlxLmRunner) -> None:
    body = {"messages": QUESTION, "response_format": json_schema(SCHEMAS["object"])}
    whole, cut, stopped = answers(runner, [body, {**body, "max_tokens": 4}, {**body, "stop": ['"inhab']}])
    assert (cut.finish_reason, len(cut.tokens)) == ("length", 4)
    assert whole.text.startswith(cut.text)
    assert (stopped.finish_reason, stopped.text) == ("stop", whole.text.partition('"inhab')[0])


@pytest.mark.parametrize(
    ("choice", "names"), [("required", {"get_weather", "get_time"}), ({"name": "get_time"}, {"get_time"})]
)
def test_a_forced_call_is_a_call(runner: runtime.MlxLmRunner, choice: Any, names: set[str]) -> None:
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    # So small a model would call on and on.
    one = {"parallel_tool_calls": False}
    [answer] = answers(runner, [{"messages": messages, "tools": [WEATHER, CLOCK], "tool_choice": choice, **one}])
    assert (answer.finish_reason, answer.text) == ("tool_calls", "")
    assert {call.name for call in answer.tool_calls} <= names
    for call in answer.tool_calls:
        tool = {"get_weather": WEATHER, "get_time": CLOCK}[call.name]
        Draft202012Validator(tool["parameters"]).validate(json.loads(call.arguments))


def test_a_forced_call_that_is_cut_is_no_text(runner: runtime.MlxLmRunner) -> None:
    body = {"messages": QUESTION, "tools": [WEATHER], "tool_choice": "required", "stop": ["name"]}
    for answer in answers(runner, [{**body, "max_tokens": tokens} for tokens in (1, 4, 9)]):
        assert (answer.finish_reason, answer.text, answer.tool_calls) == ("length", "", [])


def test_tools_and_a_schema_give_one_of_both(runner: runtime.MlxLmRunner) -> None:
    body = {"messages": QUESTION, "tools": [CLOCK], "response_format": json_schema(CITY)}
    [answer] = answers(runner, [body])
    assert answer.tool_calls or json.loads(answer.text)["city"]


def test_a_conversation_with_calls_goes_on(runner: runtime.MlxLmRunner) -> None:
    messages = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain, 12 degrees"},
    ]
    [answer] = answers(runner, [{"messages": messages, "tools": [WEATHER], "tool_choice": "none", "max_tokens": 16}])
    assert answer.text
    assert answer.tool_calls == []


def test_a_quantized_cache_follows_schemas_too(real_model: tuple[Path, Path]) -> None:
    quantized = make_runner(real_model[0], Path(), kv_bits=8)
    body = {"messages": QUESTION, "response_format": json_schema(SCHEMAS["nested"]), "logprobs": 1}
    try:
        both = answers(quantized, [body, {**body, "temperature": 1.2, "seed": 4}])
    finally:
        quantized.close()
    for answer in both:
        assert answer.finish_reason == "stop"
        Draft202012Validator(SCHEMAS["nested"]).validate(json.loads(answer.text))
        assert [told.token for told in answer.logprobs or []] == answer.tokens


def refused(runner: runtime.MlxLmRunner, **body: Any) -> ServiceError:
    with pytest.raises(ServiceError) as told:
        answers(runner, [{"messages": QUESTION, **body}])
    return told.value


def test_what_is_refused(runner: runtime.MlxLmRunner) -> None:
    wrong = refused(runner, response_format=json_schema({"type": "objct"}))
    assert (wrong.status, wrong.code, wrong.field) == (400, "bad_format", "response_format.json_schema.schema")
    wrong = refused(runner, tools=[{"name": "f", "parameters": {"not": {"required": ["a"]}}}], tool_choice="required")
    assert (wrong.status, wrong.code, wrong.field) == (400, "bad_format", "tools")
    wrong = refused(runner, logit_bias={"49152": 1})
    assert (wrong.status, wrong.code, wrong.field) == (400, "bad_token", "logit_bias")
    wrong = refused(runner, messages=[{"role": "user", "content": "a " * 3000}])
    assert (wrong.status, wrong.code, wrong.field) == (400, "prompt_too_long", "messages")
    assert "2047 are allowed" in wrong.message


def test_a_model_whose_template_knows_no_tools_is_asked_without_them(real_model: tuple[Path, Path]) -> None:
    plain = make_runner(real_model[0], Path())
    try:
        wrong = refused(plain, tools=[WEATHER])
        assert (wrong.status, wrong.code, wrong.field) == (400, "no_tools", "tools")
    finally:
        plain.close()


def test_log_probabilities_are_the_models_own(runner: runtime.MlxLmRunner, real_model: tuple[Path, Path]) -> None:
    import mlx.core as mx
    from mlx_lm import load

    body = {"prompt": "The capital of France is", "raw": True, "max_tokens": 6, "logprobs": 3}
    [answer] = answers(runner, [body])
    loaded = load(str(real_model[0]))
    model: Any = loaded[0]
    model.set_dtype(mx.float32)
    ids = loaded[1].encode(body["prompt"], add_special_tokens=True)
    assert answer.logprobs is not None
    logits = model(mx.array([[*ids, *answer.tokens]]))[0]
    own = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    for place, told in enumerate(answer.logprobs):
        row = own[len(ids) - 1 + place]
        assert told.token == answer.tokens[place] == told.top[0].token
        assert told.logprob == pytest.approx(row[told.token].item(), abs=1e-3)
        likeliest = sorted(row.tolist(), reverse=True)[:3]
        assert [other.logprob for other in told.top] == pytest.approx(likeliest, abs=1e-3)
    assert b"".join(bytes(told.bytes or []) for told in answer.logprobs).decode() == answer.text
