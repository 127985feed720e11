"""Requests of the task `generate`: what is taken, with which defaults."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlspec_runtime.generate.messages import Sampling, request_type

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
        {"prompt": "a", "seed": -1},
        {"prompt": "a", "seed": 2**63},
        {"prompt": "a", "stop": "X"},
        {"prompt": "a", "stop": [""]},
        {"prompt": "a", "stop": ["x"] * 9},
        {"prompt": "a", "max_token": 3},
    ],
)
def test_what_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        REQUEST.model_validate(body)
