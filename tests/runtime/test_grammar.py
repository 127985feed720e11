"""Grammars: whatever is allowed ends in an answer of the form, and schemas that can't be followed are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from mlspec.runners.mlx_lm.runtime_grammar import MOST_CHARACTERS, MOST_KEPT, Following, Grammars, Thinking, json_of
from mlspec.runners.mlx_lm.runtime_reasons import reason
from mlspec.runners.mlx_lm.runtime_tools import ToolMarks, calls_grammar
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.formats import unfollowed_format
from mlspec_runtime.generate.messages import Grammar, Sampling, Tool
from runtime.tokens import END, TinyTokens

TOKENS = TinyTokens()
GRAMMARS = Grammars(TOKENS)
FIELD = "response_format.json_schema.schema"
CLOSED = {"additionalProperties": False}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "mood": {"enum": ["calm", "glad"]},
        "sizes": {"type": "array", "items": {"type": "number", "minimum": -2, "maximum": 2}, "maxItems": 3},
        "home": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 8}}, **CLOSED},
    },
    "required": ["name", "age", "mood", "sizes", "home"],
    **CLOSED,
}
EITHER = {"oneOf": [{"const": "x"}, {"type": "object", "properties": {"n": {"type": "null"}}, **CLOSED}]}
WEATHER = Tool(
    name="weather", parameters={"type": "object", "properties": {"city": {"enum": ["Bern", "Rom"]}}, **CLOSED}
)
CLOCK = Tool(name="clock-1.2")


def following(grammar: Grammar, thinking: Thinking | None = None) -> Following:
    constraint = GRAMMARS.followed(grammar, thinking, FIELD).constraint
    assert isinstance(constraint, Following)
    return constraint


def of_schema(schema: Mapping[str, Any], thinking: Thinking | None = None) -> Following:
    return following(Grammar("json_schema", json.dumps(schema)), thinking)


def drawn(answer: Following, seed: int, most: int = 400) -> str:
    """An answer of tokens by chance, the shortest ones of what is allowed after a while, so that it ends."""
    chance = random.Random(seed)
    tokens: list[int] = []
    for _ in range(most):
        allowed = np.flatnonzero(answer.allowed(len(TOKENS))).tolist()
        token = END if END in allowed else chance.choice(allowed)
        answer.take(token)
        if token == END:
            return TOKENS.decode(tokens)
        tokens.append(token)
    raise AssertionError(f"no end: {TOKENS.decode(tokens)!r}")


def fed(answer: Following, text: str) -> bool:
    """Whether it may be this text, and then end."""
    for token in [*TOKENS.encode(text), END]:
        if not answer.allowed(len(TOKENS))[token]:
            return False
        answer.take(token)
    return True


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("schema", [PERSON, EITHER, {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 4}])
def test_whatever_is_drawn_follows_the_schema(schema: dict[str, Any], seed: int) -> None:
    Draft202012Validator(schema).validate(json.loads(drawn(of_schema(schema), seed)))


def test_any_object_is_json() -> None:
    assert fed(following(Grammar("json_object")), '{"a": [1, {"b": null}], "c": "\\n"}')
    assert not fed(following(Grammar("json_object")), "[1]")
    assert not fed(following(Grammar("json_object")), '{"a": 1} and more')


@pytest.mark.parametrize(
    ("text", "fits"), [('{"n":null}', True), ('{\n    "n": null\n}', True), ('{  "n": null}', False), ("{\n\n}", False)]
)
def test_white_space_is_bounded(text: str, fits: bool) -> None:
    assert fed(of_schema(EITHER), text) is fits


def test_at_the_end_only_the_end_token_is_allowed_and_what_follows_it_changes_nothing() -> None:
    answer = of_schema({"const": 1})
    for token in TOKENS.encode("1"):
        answer.take(token)
    assert np.flatnonzero(answer.allowed(len(TOKENS))).tolist() == [END]
    answer.take(END)
    # The generator is a step ahead: it asks for more before it has seen the end token.
    assert np.flatnonzero(answer.allowed(len(TOKENS))).tolist() == [END]
    answer.take(7)
    assert answer.problem is None


@pytest.mark.parametrize("vocabulary", [512, 800])
def test_a_mask_has_the_size_of_the_logits(vocabulary: int) -> None:
    mask = of_schema(PERSON).allowed(vocabulary)
    assert mask.shape == (vocabulary,)
    assert not mask[len(TOKENS) :].any()


def test_each_answer_stands_at_its_own_place() -> None:
    first, second = of_schema({"const": "ab"}), of_schema({"const": "ab"})
    first.take(TOKENS.encode('"')[0])
    assert fed(second, '"ab"')
    assert first.problem is None


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "objct"}, "a 'type' that doesn't exist"),
        ({"type": "string", "pattern": "(?=x)"}, "look-around"),
        ({"$ref": "https://example.com/schema"}, "nothing is fetched"),
        ({"$ref": "#/$defs/none"}, "what it doesn't have"),
        ({"not": {"type": "string"}}, "'not'"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "'minimum' is greater than 'maximum'"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no answer"),
        ({"const": "\ud800"}, "half a surrogate pair"),
        ({"const": "x" * MOST_CHARACTERS}, "are allowed"),
        ({"enum": [float("nan")]}, "JSON can't have"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(ServiceError, match=said) as refused:
        of_schema(schema)
    assert (refused.value.status, refused.value.code, refused.value.field) == (400, "bad_format", FIELD)


SECRETS: list[dict[str, Any]] = [
    {"type": "SECRET"},
    {"type": "string", "format": "SECRET"},
    {"type": "string", "pattern": "(?=SECRET)"},
    {"type": "string", "pattern": "SECRET[\nerror: SECRET\n 3 | SECRET"},
    {"patternProperties": {"SECRET[": {}}},
    {"$ref": "https://example.com/SECRET"},
    {"$ref": "#/$defs/SECRET"},
    {"$schema": "SECRET"},
    {"type": "string", "minLength": "SECRET"},
    {"type": "object", "required": "SECRET"},
    {"type": "object", "required": ["SECRET"], **CLOSED},
    {"properties": {"SECRET": 7}},
    {"enum": "SECRET"},
    {"dependentRequired": {"SECRET": ["a"]}},
    {"const": "SECRET\ud800"},
    {"enum": [float("nan"), "SECRET"]},
]


@pytest.mark.parametrize("schema", SECRETS)
def test_a_reason_repeats_nothing_of_the_schema_nor_of_the_grammar_around_it(schema: dict[str, Any]) -> None:
    with pytest.raises(ServiceError) as refused:
        of_schema(schema)
    told = [refused.value.message]
    if "enum" not in schema or schema["enum"] == "SECRET":
        with pytest.raises(ServiceError) as refused:
            calls(Tool.model_construct(name="f", parameters={"properties": {"a": schema}, "required": ["a"]}))
        told.append(refused.value.message)
    for message in told:
        assert "SECRET" not in message.upper()
        assert "json" not in message
        assert "|" not in message
        assert not message.endswith("it is beyond what can be followed here")


def test_a_reason_of_another_form_is_told_in_general() -> None:
    assert reason("something SECRET") == "it is beyond what can be followed here"
    assert reason('Unimplemented keys: ["SECRET"]') == "it is beyond what can be followed here"


def test_a_schema_as_deep_as_python_can_read_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ServiceError, match="nested too deeply"):
        of_schema(schema)


def test_options_of_the_compiler_are_not_the_clients() -> None:
    free = {**EITHER, "x-guidance": {"whitespace_pattern": "[ ]*", "lenient": True}}
    assert not fed(of_schema(free), '{     "n":null}')


def test_a_limit_met_on_the_way_ends_the_answer_with_a_problem() -> None:
    many = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(2000)}}
    answer = of_schema(many)
    answer.take(TOKENS.encode("{")[0])
    assert np.flatnonzero(answer.allowed(len(TOKENS))).tolist() == [END]
    assert answer.problem == "it is too large, or leaves too many ways open at once"
    told = unfollowed_format(Sampling(max_tokens=1, grammar=Grammar("json_schema", "{}", answer)))
    assert told is not None
    assert (told.status, told.code) == (400, "format_too_complex")
    assert "p1999" not in told.message


def test_compiled_grammars_are_kept_up_to_a_bound() -> None:
    grammars = Grammars(TOKENS)
    for number in range(MOST_KEPT + 5):
        grammars.followed(Grammar("json_schema", json.dumps({"const": number})), None, FIELD)
    assert grammars.kept == MOST_KEPT
    large = json.dumps({"enum": ["x" * 1000 + str(number) for number in range(100)]})
    for number in range(MOST_KEPT):
        grammars.followed(Grammar("json_schema", f'{large[:-1]}, "title": "{number}"}}'), None, FIELD)
    assert 5 < grammars.kept < MOST_KEPT


THOUGHT = Thinking(start=(5,), end=(6, 7))


def test_what_a_model_thinks_is_free_but_it_does_not_end_there() -> None:
    answer = of_schema({"const": 1}, Thinking(THOUGHT.start, THOUGHT.end, begun=True))
    assert np.flatnonzero(~answer.allowed(len(TOKENS))).tolist() == [END]
    for token in (9, 6, 6, 7):
        answer.take(token)
    assert fed(answer, "1")


def test_a_model_may_begin_to_think_at_its_first_token_alone() -> None:
    thinks, does_not = of_schema({"const": 1}, THOUGHT), of_schema({"const": 1}, THOUGHT)
    assert thinks.allowed(len(TOKENS))[5]
    for token in (5, 5, 8, 6, 7):
        thinks.take(token)
    assert not thinks.allowed(len(TOKENS))[5]
    assert fed(thinks, "1")
    does_not.allowed(len(TOKENS))
    assert fed(does_not, "1")


def parsed(text: str, tools: Sequence[Any]) -> Any:
    return json.loads(text)


MARKS = ToolMarks("<tool_call>", "</tool_call>", parsed)


def calls(*tools: Tool, several: bool = True, or_json: Mapping[str, Any] | None = None) -> Following:
    text = calls_grammar(tools, MARKS, json_of, several=several, special={}, or_json=or_json)
    return following(Grammar("lark", text))


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def test_forced_calls_name_a_tool_and_follow_its_parameters() -> None:
    bern, clock = call("weather", '{"city": "Bern"}'), call("clock-1.2", "{}")
    assert fed(calls(WEATHER, CLOCK), f"{clock}\n{bern}")
    assert fed(calls(WEATHER, CLOCK, several=False), bern)
    assert not fed(calls(WEATHER, CLOCK, several=False), f"{clock}\n{bern}")
    assert not fed(calls(WEATHER), clock)
    assert not fed(calls(WEATHER), call("weather", '{"city": "Oslo"}'))
    assert not fed(calls(CLOCK), call("clock-1.2", '{"zone": 1}'))
    assert not fed(calls(WEATHER), "It rains.")


def test_arguments_are_an_object_whatever_the_schema_says() -> None:
    either = Tool(name="f", parameters={"type": ["object", "null"], **CLOSED})
    assert fed(calls(either), call("f", "{}"))
    assert not fed(calls(either), call("f", "null"))
    with pytest.raises(ServiceError, match="contradicts itself"):
        calls(Tool(name="f", parameters={"enum": ["x"]}))


def test_a_call_or_json_of_a_schema() -> None:
    assert fed(calls(WEATHER, or_json=EITHER), '{"n": null}')
    assert fed(calls(WEATHER, or_json=EITHER), call("weather", '{"city": "Rom"}'))
    assert not fed(calls(WEATHER, or_json=EITHER), "1")


def test_marks_that_are_special_tokens_are_named_by_their_ids() -> None:
    text = calls_grammar(
        [CLOCK], ToolMarks("<|im_start|>", "x", parsed), json_of, several=False, special={"<|im_start|>": 1}
    )
    answer = following(Grammar("lark", text))
    assert np.flatnonzero(answer.allowed(len(TOKENS))).tolist() == [1]
    assert fed(answer, '<|im_start|>\n{"name": "clock-1.2", "arguments": {}}\nx')


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"name": "weather", "arguments": {"city": "Bern"}}', ["weather"]),
        ('[{"name": "weather", "arguments": {}}, {"name": "clock-1.2"}]', ["weather", "clock-1.2"]),
        ('{"name": "weather", "arguments": "{}"}', ["weather"]),
        ('{"name": "bomb", "arguments": {}}', None),
        ('{"name": "weather", "arguments": [1]}', None),
        ('{"name": "weather", "arguments": {', None),
        ("7", None),
        (f'{{"name": "weather", "arguments": {"[" * 101}{"]" * 101}}}', None),
        (f'{{"name": "weather", "arguments": {{"a": {"[" * 5000}{"]" * 5000}}}}}', None),
        (f'{{"name": "weather", "arguments": {{"a": {"[" * 900}{"]" * 900}}}}}', None),
    ],
)
def test_calls_are_read_if_they_are_calls_of_these_tools(text: str, names: list[str] | None) -> None:
    if names is None:
        with pytest.raises(ValueError, match=r"call|object|deep"):
            MARKS.calls(text, [WEATHER, CLOCK])
        return
    found = MARKS.calls(text, [WEATHER, CLOCK])
    assert [call.name for call in found] == names
    assert len({call.id for call in found}) == len(found)


def test_which_calls_can_be_forced() -> None:
    def fails(text: str, tools: Sequence[Any]) -> Any:
        raise KeyError(text)

    assert MARKS.are_json
    assert not ToolMarks("<call>", "</call>", fails).are_json
    assert not ToolMarks("[CALLS]", "", parsed).are_json
