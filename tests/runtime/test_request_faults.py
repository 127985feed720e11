"""What is wrong in a request is told as one fault of its field, without what was asked, and in its own row alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlspec_runtime.generate.json_values import MOST_LEVELS, check_json, read_object
from mlspec_runtime.generate.schemas import check_parameters
from runtime.bundles import limits
from runtime.services import Service, running
from runtime.test_batch import chat
from runtime.test_openai import go

LIMITS = limits(max_batch=200, max_body_bytes=2**20)
CHAT = "/v1/chat/completions"
TYPES = "array, boolean, integer, null, number, object, string"


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def deep_schema(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return schema


def called(arguments: str) -> dict[str, Any]:
    call = {"id": "c", "name": "look", "arguments": arguments}
    return {"messages": [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "one"}]}


def with_tool(parameters: Any, **more: Any) -> dict[str, Any]:
    return {"prompt": "one", "tools": [{"name": "look"}, {"name": "SECRET", "parameters": parameters}], **more}


def with_schema(schema: Any) -> dict[str, Any]:
    return {"prompt": "one", "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


ARGUMENTS = "messages.0.tool_calls.0.arguments"
PARAMETERS = "tools.1.parameters"
CHOICE = "give 'auto', 'none', 'required' or the name of a tool"
DEEP = "nested too deeply: 100 levels are allowed"
HALF = "it has half a surrogate pair"
FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    *((ARGUMENTS, DEEP, called(deep(levels))) for levels in (MOST_LEVELS + 1, 500, 900, 1200, 5000)),
    (ARGUMENTS, DEEP, called(deep(MOST_LEVELS).replace("1", "[]"))),
    (ARGUMENTS, HALF, called('{"SECRET": "\\ud800"}')),
    (ARGUMENTS, "it must be the text of a JSON object", called('["SECRET"]')),
    (ARGUMENTS, "it has a number that JSON doesn't have", called('{"SECRET": NaN}')),
    (PARAMETERS, DEEP, with_tool(deep_schema(51))),
    (PARAMETERS, DEEP, with_tool(deep_schema(120))),
    (PARAMETERS, HALF, with_tool({"description": "SECRET\ud800"})),
    (PARAMETERS, HALF, with_tool({"properties": {"SECRET\udfff": {}}})),
    *(
        (PARAMETERS, f"'type' must be one of {TYPES}, wherever it stands", with_tool(parameters, tool_choice=choice))
        for choice in ("auto", "none", "required")
        for parameters in ({"type": "SECRET"}, {"properties": {"a": {"anyOf": [{"type": ["null", "SECRET"]}]}}})
    ),
    (PARAMETERS, "parameters describe an object: their 'type' must be 'object'", with_tool({"type": "string"})),
    ("response_format.json_schema.schema", DEEP, with_schema(deep_schema(120))),
    ("response_format.json_schema.schema", HALF, with_schema({"const": "SECRET\ud800"})),
    *(("tool_choice", CHOICE, with_tool({}, tool_choice=choice)) for choice in ("any", {"name": "SECRET !"}, 5, {})),
    ("tool_choice", "it names no tool of 'tools'", with_tool({}, tool_choice={"name": "other"})),
    ("tool_choice", "it needs 'tools'", {"prompt": "one", "tool_choice": "required"}),
    ("tools", "two tools have the same name", {"prompt": "one", "tools": [{"name": "f"}, {"name": "f"}]}),
    *(
        (
            "logit_bias",
            "give up to 1024 ids of tokens as text, each with a number from -100 to 100",
            {"prompt": "one", "logit_bias": biases},
        )
        for biases in ({"SECRET": 1}, {"1": 101}, {"1": "SECRET"}, {str(n): 1 for n in range(1025)})
    ),
]


async def answer(service: Service, path: str, body: Any) -> Any:
    # Half a surrogate pair goes as an escape, which httpx's own JSON has not.
    response = await service.client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert "SECRET" not in response.text
    return response


def test_each_is_one_fault_of_its_field() -> None:
    async def check() -> None:
        async with running(**chat(), endpoints=["predict"], limits=LIMITS) as service:
            for field, message, body in FAULTS:
                response = await answer(service, "/predict", body)
                error = response.json()["error"]
                assert (response.status_code, error.get("field")) == (422, field), (body, error)
                assert error["message"] == f"{field}: {message}"

    go(check())


def test_each_fails_alone_in_a_batch() -> None:
    async def check() -> None:
        inputs = [body for fault in FAULTS for body in ({"prompt": "one"}, fault[2])]
        async with running(**chat(), endpoints=["batch"], limits=LIMITS) as service:
            outputs = (await answer(service, "/predict/batch", {"inputs": inputs})).json()["outputs"]
            assert [output["text"] for output in outputs[::2]] == ["one"] * len(FAULTS)
            told = [output["error"]["field"] for output in outputs[1::2]]
            assert told == [f"inputs.{2 * at + 1}.{field}" for at, (field, _, _) in enumerate(FAULTS)]

    go(check())


@pytest.mark.parametrize(
    ("problem", "status"), [(RecursionError("SECRET"), "invalid_request"), (RuntimeError("SECRET"), "internal")]
)
def test_a_row_whose_check_stumbles_fails_alone(
    problem: Exception, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with running(**chat(), endpoints=["batch"], limits=LIMITS) as service:
            kind: Any = service.runner.request_type
            validate = kind.model_validate

            def stumbling(given: Any) -> Any:
                if given["prompt"] == "stumble":
                    raise problem
                return validate(given)

            monkeypatch.setattr(kind, "model_validate", stumbling)
            inputs = [{"prompt": "one"}, {"prompt": "stumble"}, {"prompt": "two"}]
            outputs = (await answer(service, "/predict/batch", {"inputs": inputs})).json()["outputs"]
            assert [output.get("text") for output in outputs] == ["one", None, "two"]
            assert (outputs[1]["error"]["code"], outputs[1]["error"]["field"]) == (status, "inputs.1")

    go(check())


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", **fields}}


CHAT_FAULTS: list[tuple[str, str, dict[str, Any]]] = [
    ("tool_choice", CHOICE, {"tools": [function()], "tool_choice": {"type": "function"}}),
    ("tools.0.function.parameters", HALF, {"tools": [function(parameters={"title": "SECRET\ud800"})]}),
    ("tools.0.function.parameters", DEEP, {"tools": [function(parameters=deep_schema(125))]}),
    (
        "messages.0.tool_calls.0.function.arguments",
        DEEP,
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", **function(arguments=deep(1200))}]}]},
    ),
    (
        "logit_bias",
        "give ids of tokens as text, each with a number from -100 to 100",
        {"logit_bias": {"SECRET": "SECRET"}},
    ),
]


def test_they_are_told_in_the_words_of_openai() -> None:
    async def check() -> None:
        async with running(**chat(), endpoints=["chat"], limits=LIMITS) as service:
            for field, message, body in CHAT_FAULTS:
                asked = {"messages": [{"role": "user", "content": "one"}], **body}
                response = await answer(service, CHAT, asked)
                error = response.json()["error"]
                assert (response.status_code, error.get("field")) == (422, field), (body, error)
                assert error["message"] == f"{field}: {message}"

    go(check())


def test_what_is_as_deep_as_allowed_is_taken() -> None:
    assert read_object(deep(MOST_LEVELS))
    assert check_json({"a": ["\U0001f600", "é", 1.5, None, True]})


def test_only_schemas_have_types() -> None:
    schema = {
        "type": ["object", "null"],
        "properties": {"type": {"type": "string", "enum": [{"type": "car"}]}, "kind": {"const": {"type": "car"}}},
        "default": {"type": "car"},
        "required": ["type"],
    }
    assert check_parameters(schema) is schema
    for key, inner in (("items", {"type": "car"}), ("prefixItems", [{"type": "car"}]), ("$defs", {"a": {"type": 5}})):
        with pytest.raises(ValueError, match="must be one of"):
            check_parameters({key: inner})
