"""Requests of the task `generate`: what is taken, with which defaults."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlspec_runtime.generate.messages import Grammar, Sampling, request_type

DEFAULTS = Sampling(max_tokens=32, temperature=0.5, top_p=0.9, top_k=7, stop=("X",), seed=3)
REQUEST = request_type(["support"], "support", 64, DEFAULTS)


def test_the_services_defaults_are_the_requests() -> None:
    request = REQUEST.model_validate({"prompt": "a"})
    assert request.adapter == "support"
    assert request.sampling() == DEFAULTS
    schema = REQUEST.model_json_schema()["properties"]
    assert schema["adapter"]["enum"] == ["base", "support"]
    assert (schema["max_tokens"]["maximum"], schema["max_tokens"]["default"]) == (64, 32)
    assert (schema["top_k"]["default"], schema["stop"]["default"], schema["seed"]["default"]) == (7, ["X"], 3)


def test_a_default_over_the_limit_is_the_limit() -> None:
    request = request_type([], "base", 8, DEFAULTS).model_validate({"prompt": "a"})
    assert request.max_tokens == 8


def test_options_replace_defaults() -> None:
    body = {
        "messages": [{"role": "user", "content": ""}],
        "adapter": "base",
        "stop": [],
        "seed": None,
        "temperature": 0,
    }
    request = REQUEST.model_validate(body)
    assert (request.adapter, request.sampling().stop, request.seed, request.temperature) == ("base", (), None, 0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": "a", "messages": [{"role": "user", "content": "b"}]},
        {"prompt": ""},
        {"prompt": 1},
        {"prompt": "\ud800"},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "b"}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "tool", "tool_call_id": "1"}]},
        {"messages": [{"role": "user", "content": "b", "tool_call_id": "1"}]},
        {"messages": [{"role": "assistant", "content": "b", "tool_calls": []}]},
        {"messages": [{"role": "user", "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "name": "f", "arguments": "[]"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "name": "f", "arguments": "{"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "", "name": "f", "arguments": "{}"}]}]},
        {"messages": [{"role": "user", "content": "b"}], "raw": True},
        {"prompt": "a", "adapter": "nobody"},
        {"prompt": "a", "adapter": None},
        {"prompt": "a", "max_tokens": 0},
        {"prompt": "a", "max_tokens": 65},
        {"prompt": "a", "max_tokens": 1.5},
        {"prompt": "a", "max_tokens": True},
        {"prompt": "a", "temperature": -0.1},
        {"prompt": "a", "temperature": float("nan")},
        {"prompt": "a", "temperature": float("inf")},
        {"prompt": "a", "top_p": 0},
        {"prompt": "a", "top_k": -1},
        {"prompt": "a", "min_p": 1.0},
        {"prompt": "a", "repetition_penalty": 0},
        {"prompt": "a", "repetition_penalty": 1e-40},
        {"prompt": "a", "repetition_penalty": 0.0099},
        {"prompt": "a", "seed": -1},
        {"prompt": "a", "seed": 2**63},
        {"prompt": "a", "stop": "X"},
        {"prompt": "a", "stop": [""]},
        {"prompt": "a", "stop": ["x"] * 9},
        {"prompt": "a", "max_token": 3},
        {"prompt": "a", "logprobs": 21},
        {"prompt": "a", "logprobs": -1},
        {"prompt": "a", "presence_penalty": 2.1},
        {"prompt": "a", "frequency_penalty": -2.1},
        {"prompt": "a", "logit_bias": {"1": 101}},
        {"prompt": "a", "logit_bias": {"-1": 1}},
        {"prompt": "a", "logit_bias": {"1\n": 1}},
        {"prompt": "a", "logit_bias": {str(n): 1 for n in range(1025)}},
        {"prompt": "a", "tools": [{"name": "f g"}]},
        {"prompt": "a", "tools": [{"name": "f\n"}]},
        {"prompt": "a", "tools": [{"name": "f"}, {"name": "f"}]},
        {"prompt": "a", "tools": [{"name": "f", "parameters": []}]},
        {"prompt": "a", "tools": [{"name": f"f{n}"} for n in range(129)]},
        {"prompt": "a", "tools": [{"name": "f"}], "raw": True},
        {"prompt": "a", "tool_choice": "required"},
        {"prompt": "a", "tool_choice": "any"},
        {"prompt": "a", "tools": [{"name": "f"}], "tool_choice": {"name": "g"}},
        {"prompt": "a", "response_format": {"type": "yaml"}},
        {"prompt": "a", "response_format": {"type": "json_schema"}},
        {"prompt": "a", "response_format": {"type": "json_object", "json_schema": {"schema": {}}}},
        {"prompt": "a", "response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
    ],
)
def test_what_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        REQUEST.model_validate(body)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "json_schema"}, "'json_schema' is missing: give the schema"),
        ({"type": "json_object", "json_schema": {"schema": {}}}, "'json_schema' goes with type 'json_schema', and"),
    ],
)
def test_what_is_said_of_formats(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        REQUEST.model_validate({"prompt": "a", "response_format": given})


def test_what_changes_how_tokens_are_chosen() -> None:
    body = {"logit_bias": {"7": -100, "3": 2.5}, "presence_penalty": 1, "frequency_penalty": -0.5, "logprobs": 0}
    sampling = REQUEST.model_validate({"prompt": "a", **body}).sampling()
    assert sampling.logit_bias == ((3, 2.5), (7, -100.0))
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.logprobs) == (1, -0.5, 0)
    plain = REQUEST.model_validate({"prompt": "a"}).sampling()
    assert sampling.work != plain.work
    assert len(sampling.work) == len(plain.work)


def test_formats_become_grammars() -> None:
    def grammar(response_format: dict[str, Any] | None) -> Grammar | None:
        return REQUEST.model_validate({"prompt": "a", "response_format": response_format}).sampling().grammar

    assert grammar(None) is None
    assert grammar({"type": "text"}) is None
    assert grammar({"type": "json_object"}) == Grammar("json_object")
    schema = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"const": "é"}}}
    assert grammar(schema) == Grammar("json_schema", '{"const": "é"}')


def test_tools_that_may_not_be_called_are_not_offered() -> None:
    tools = [{"name": "f", "description": "d", "parameters": {"type": "object"}}]
    for choice, offered in (("auto", 1), ("required", 1), ({"name": "f"}, 1), ("none", 0)):
        request = REQUEST.model_validate({"prompt": "a", "tools": tools, "tool_choice": choice})
        assert len(request.offered_tools()) == offered
