"""Which requests have equal answers, and when an engine is stuck."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.runners.mlx_lm import runtime_keys
from mlspec.runners.mlx_lm.runtime_keys import ResponseKeys
from mlspec.runners.mlx_lm.runtime_liveness import Liveness
from mlspec_runtime.generate.json_values import MOST_LEVELS
from mlspec_runtime.generate.messages import GenerateRequest, Sampling, request_type

REQUEST = request_type(["support"], "support", 64, Sampling(max_tokens=32))
KEYS = ResponseKeys({"context_length": 64}, "support", "{{ messages }}")
BODY: dict[str, Any] = {"prompt": "a"}


def request(**changes: Any) -> GenerateRequest:
    return REQUEST.model_validate({**BODY, **changes})


def key(keys: ResponseKeys = KEYS, **changes: Any) -> bytes | None:
    return keys.key(request(**changes))


def test_equal_requests_have_equal_keys() -> None:
    assert key() == key(adapter="support") == key(max_tokens=32, temperature=0.0) == key(tools=None)
    assert key(temperature=1, seed=3) == key(temperature=1.0, seed=3)


def test_where_nothing_is_drawn_what_is_for_drawing_makes_no_difference() -> None:
    assert key() == key(seed=3) == key(top_p=0.5, top_k=3, min_p=0.1)
    assert key(temperature=1, seed=3) != key(temperature=1, seed=3, top_p=0.5)


def test_an_answer_of_chance_has_no_key() -> None:
    assert key(temperature=0.1) is None
    assert key(temperature=0.1, seed=0) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "b"},
        {"raw": True},
        {"adapter": "base"},
        {"max_tokens": 31},
        {"temperature": 1, "seed": 1},
        {"temperature": 1, "seed": 2},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": 0.1},
        {"logit_bias": {"1": 1}},
        {"logprobs": 0},
        {"stop": ["x"]},
        {"tools": [{"name": "f"}]},
        {"tools": [{"name": "f", "parameters": {"type": "object"}}]},
        {"tools": [{"name": "f"}], "tool_choice": "required"},
        {"tools": [{"name": "f"}], "parallel_tool_calls": False},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 1}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 2}}}},
    ],
)
def test_what_changes_an_answer_changes_its_key(changes: dict[str, Any]) -> None:
    others = [{}, {"prompt": "c"}, {"raw": True, "prompt": "c"}, {"temperature": 1, "seed": 9}]
    assert key(**changes) not in {key(**other) for other in others}


def test_turns_that_differ_in_one_place_have_keys_of_their_own() -> None:
    def of(*messages: dict[str, Any]) -> bytes | None:
        return KEYS.key(REQUEST.model_validate({"messages": list(messages)}))

    user, tool = {"role": "user", "content": "a"}, {"role": "tool", "content": "a"}
    keys = [of(user), of(tool), of(user, user), of({**user, "name": "n"}), of({**tool, "tool_call_id": "1"}), key()]
    assert len(set(keys)) == len(keys)


def test_another_service_has_other_keys() -> None:
    others = (ResponseKeys({"context_length": 65}, "support", "{{ messages }}"), ResponseKeys({}, "support", "x"))
    assert len({key(), *(key(other) for other in others)}) == 3


def test_a_template_that_tells_the_date_has_keys_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    dated = ResponseKeys({}, "support", "{{ strftime_now('%d %b %Y') }}")
    today, plain = key(dated), key()
    monkeypatch.setattr(runtime_keys.time, "strftime", lambda form: "1999-01-01")
    assert key(dated) != today
    assert key() == plain


def test_a_schema_as_deep_as_requests_may_have_has_a_key() -> None:
    schema: dict[str, Any] = {}
    for _ in range(MOST_LEVELS - 1):
        schema = {"items": schema}
    assert key(response_format={"type": "json_schema", "json_schema": {"schema": schema}}) is not None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_engine_that_was_idle_is_not_stuck_when_it_gets_work() -> None:
    clock = Clock()
    liveness = Liveness(30, clock)
    assert liveness.stuck_s(5.0, busy=False) is None
    clock.now += 3600
    assert liveness.stuck_s(5.0, busy=True) is None


def test_an_engine_without_a_step_for_long_is_stuck_until_it_steps() -> None:
    clock = Clock()
    liveness = Liveness(90, clock)
    assert liveness.stuck_s(5.0, busy=True) is None
    clock.now += 90
    assert liveness.stuck_s(5.0, busy=True) is None
    clock.now += 1
    assert liveness.stuck_s(5.0, busy=True) == 91
    assert liveness.stuck_s(6.0, busy=True) is None
    clock.now += 91
    assert liveness.stuck_s(7.0, busy=True) is None


def test_a_short_deadline_does_not_make_it_impatient() -> None:
    clock = Clock()
    liveness = Liveness(1, clock)
    liveness.stuck_s(5.0, busy=True)
    clock.now += 59
    assert liveness.stuck_s(5.0, busy=True) is None
    clock.now += 2
    assert liveness.stuck_s(5.0, busy=True) == 61
