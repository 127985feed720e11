"""Reasoning and calls of tools in a model's text, with mlx_lm's own tokenizer and parsers; chat templates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateRequest, Sampling, Tool, request_type
from mlspec_runtime.generate.transcript import Parts, Transcript
from runtime.tokens import TINY

pytestmark = pytest.mark.e2e

PLAIN = "{% for message in messages %}{{ message.role + ':' + message.content + '\\n' }}{% endfor %}"
HERMES = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{# <tool_call> tool_call.name #}" + PLAIN
XML = "{# <tool_call>\n<function= #}" + PLAIN
WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'


def tokenizer(folder: Path, template: str, *, thinks: bool = False) -> Any:
    """The tiny model's with this chat template, as mlx_lm loads it; if it `thinks`, with tokens for that."""
    from mlx_lm.tokenizer_utils import load

    if not folder.exists():
        shutil.copytree(TINY, folder)
    config = json.loads((TINY / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    if thinks:
        data = json.loads((TINY / "tokenizer.json").read_text())
        added = data["added_tokens"]
        added += [{**added[0], "id": 768 + n, "content": t} for n, t in enumerate(("<think>", "</think>"))]
        (folder / "tokenizer.json").write_text(json.dumps(data))
    return load(folder)


def reader(made: Any, **settings: Any) -> Any:
    from mlspec.runners.mlx_lm.runtime_requests import RequestReader
    from mlspec.runners.mlx_lm.runtime_settings import Settings

    sampling = Sampling(max_tokens=16)
    return RequestReader(made, Settings(settings.pop("context_length", 256), (), "base", None, sampling, **settings))


def request(**body: Any) -> GenerateRequest:
    return request_type([], "base", 64, Sampling(max_tokens=16)).model_validate({"prompt": "Hi", **body})


def split(form: Any, text: str, size: int = 3, *, cut: bool = False) -> Parts:
    """What the form makes of a text that comes in pieces."""
    splitter, whole = form.splitter(), Parts()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    for parts in [*map(splitter.feed, pieces), splitter.finish(cut=cut)]:
        whole.text += parts.text
        whole.reasoning += parts.reasoning
        whole.tool_calls += parts.tool_calls
    return whole


def form(made: Any, tools: Sequence[Tool] = (), prompt: str = "Hi", *, forced: bool = False) -> Any:
    from mlspec.runners.mlx_lm.runtime_answers import AnswerForms

    ids = made.encode(prompt, add_special_tokens=False)
    return AnswerForms(made).form(ids, tools, several=True, forced=forced)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_calls_are_taken_out_of_the_text(tmp_path: Path, size: int) -> None:
    found = split(form(tokenizer(tmp_path / "t", HERMES), [WEATHER]), f"I look.\n{CALL}\n{CALL}\n", size)
    assert found.text == "I look.\n"
    assert [(call.name, json.loads(call.arguments)) for call in found.tool_calls] == [("weather", {"city": "Bern"})] * 2
    assert len({call.id for call in found.tool_calls}) == 2


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "bomb", "arguments": {}}\n</tool_call> and more',
        '<tool_call>\n{"name": "weather", "argu',
        "<tool_call></tool_call>",
        "<tool_call>",
        "2 <tool and 3",
        "ends with <tool_c",
    ],
)
def test_what_is_no_call_stays_text(tmp_path: Path, text: str) -> None:
    found = split(form(tokenizer(tmp_path / "t", HERMES), [WEATHER]), text)
    assert (found.text, found.tool_calls) == (text, [])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('I look. <tool_call>\n{"name": "weather", "argu', "I look. "),
        ("<tool_call>", ""),
        ("<tool_call>\nYou write it so: <tool", "<tool_call>\nYou write it so: <tool"),
        ('<tool_call>{"name": "bomb", "arguments": {}}</tool_call> so', None),
        ("2 <tool", "2 <tool"),
    ],
)
def test_a_call_that_was_cut_off_is_shown_nowhere(tmp_path: Path, text: str, shown: str | None) -> None:
    found = split(form(tokenizer(tmp_path / "t", HERMES), [WEATHER]), text, cut=True)
    assert (found.text, found.tool_calls) == (text if shown is None else shown, [])


@pytest.mark.parametrize("length", range(len(CALL) + 1))
def test_a_forced_call_is_never_text(tmp_path: Path, length: int) -> None:
    found = split(form(tokenizer(tmp_path / "t", HERMES), [WEATHER], forced=True), CALL[:length], cut=True)
    # All of it is there before its end mark is.
    whole = CALL[:length].rstrip().endswith(("}}", "</tool_call>"))
    assert (found.text, bool(found.tool_calls)) == ("", whole)


@pytest.mark.parametrize("choice", ["required", {"name": "weather"}])
def test_stop_texts_are_not_sought_in_a_forced_call(tmp_path: Path, choice: Any) -> None:
    made = tokenizer(tmp_path / "t", HERMES)
    body = {"tools": [WEATHER.model_dump()], "tool_choice": choice, "stop": ["name", "<", '"']}
    reading = reader(made, context_length=2048).read(request(**body))
    for length in range(1, len(CALL)):
        transcript = Transcript(made.detokenizer, reading.sampling.stop, reading.format)
        made.detokenizer.reset()
        for token in made.encode(CALL[:length], add_special_tokens=False):
            transcript.add(token)
        transcript.finish(cut=True)
        assert (transcript.text, transcript.stopped, transcript.reason("length")) == ("", False, "length")


def test_without_tools_all_is_text(tmp_path: Path) -> None:
    assert form(tokenizer(tmp_path / "t", HERMES)) is None
    thinks = tokenizer(tmp_path / "thinks", HERMES, thinks=True)
    assert split(form(thinks), f"<think>a</think>{CALL}").text == CALL


def test_reasoning_is_apart(tmp_path: Path) -> None:
    thinks = tokenizer(tmp_path / "t", HERMES, thinks=True)
    found = split(form(thinks, [WEATHER]), f"<think>\nIt rains\n</think>\n\nSo: {CALL}\nBye")
    assert (found.reasoning, found.text, len(found.tool_calls)) == ("It rains\n", "So: Bye", 1)
    begun = split(form(thinks, prompt="Hi<think>"), "It rains</think>So")
    assert (begun.reasoning, begun.text) == ("It rains", "So")
    over = split(form(thinks, prompt="Hi<think></think>"), "So")
    assert (over.reasoning, over.text) == ("", "So")
    cut = split(form(thinks, prompt="Hi<think>"), "It rains </thi")
    assert (cut.reasoning, cut.text) == ("It rains </thi", "")


def test_a_forced_format_lets_a_model_think_first(tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "t", PLAIN + "{% if add_generation_prompt %}<think>{% endif %}", thinks=True)
    reading = reader(made).read(request(response_format={"type": "json_object"}))
    constraint = reading.sampling.grammar.constraint
    assert constraint.allowed(770).sum() == 770 - len(made.eos_token_ids)
    for token in made.encode("hm</think>", add_special_tokens=False):
        constraint.take(token)
    assert made.decode(constraint.allowed(770).nonzero()[0].tolist()).startswith("{")


def test_tools_are_told_in_the_prompt_and_turns_of_tools_with_objects(tmp_path: Path) -> None:
    template = HERMES + "{% for message in messages %}{{ (message.tool_calls or [{}])[0] | tojson }}{% endfor %}"
    made = tokenizer(tmp_path / "t", template)
    call = {"id": "c1", "name": "weather", "arguments": '{"city": "Bern"}'}
    messages = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "Rain", "tool_call_id": "c1"}]
    body = {"prompt": None, "messages": messages, "tools": [WEATHER.model_dump()]}
    text = made.decode(reader(made, context_length=2048).read(request(**body)).prompt)
    assert '"description": "", "parameters": {"type": "object"' in text
    assert '{"type": "function", "id": "c1", "function": {"name": "weather", "arguments": {"city": "Bern"}}}' in text
    assert "tool:Rain" in text


def test_the_system_prompt_begins_conversations_that_have_none(tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "t", PLAIN)
    read = reader(made, system_prompt="Be brief.").read
    own = [{"role": "system", "content": "Be long."}, {"role": "user", "content": "Hi"}]
    assert made.decode(read(request()).prompt) == "system:Be brief.\nuser:Hi\n"
    assert made.decode(read(request(prompt=None, messages=own)).prompt) == "system:Be long.\nuser:Hi\n"
    assert made.decode(read(request(raw=True)).prompt).endswith("Hi")
    assert "brief" not in made.decode(read(request(raw=True)).prompt)


def refused(made: Any, settings: dict[str, Any] | None = None, **body: Any) -> ServiceError:
    with pytest.raises(ServiceError) as told:
        reader(made, **settings or {}).read(request(**body))
    return told.value


def test_what_a_template_can_not_do(tmp_path: Path) -> None:
    tools = [WEATHER.model_dump()]
    wrong = refused(tokenizer(tmp_path / "t", PLAIN), tools=tools)
    assert (wrong.status, wrong.code, wrong.field) == (400, "no_tools", "tools")
    assert "'<tool_call>' with 'tool_call.name'" in wrong.message
    assert refused(tokenizer(tmp_path / "own", "{{ tools | tojson }}" + PLAIN), tools=tools).code == "no_tools"
    xml = tokenizer(tmp_path / "t", XML)
    wrong = refused(xml, tools=tools, tool_choice="required")
    assert (wrong.status, wrong.code, wrong.field) == (400, "calls_not_enforceable", "tool_choice")
    wrong = refused(xml, tools=tools, response_format={"type": "json_object"})
    assert (wrong.status, wrong.code, wrong.field) == (400, "calls_not_enforceable", "response_format")
    assert reader(xml).read(request(tools=tools)).format is not None


def test_errors_of_templates_do_not_repeat_the_prompt(tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "t", "{{ messages[0].content + 1 }}")
    wrong = refused(made, prompt="my secret")
    assert (wrong.status, wrong.code, wrong.field) == (400, "bad_messages", "prompt")
    assert "secret" not in wrong.message
    said = refused(tokenizer(tmp_path / "t", "{{ raise_exception('no system, please') }}"))
    assert "no system, please" in said.message


def test_a_prompt_that_does_not_fit_is_told_its_tokens_and_bytes(tmp_path: Path) -> None:
    from mlspec.runners.mlx_lm.runtime_settings import PlannedMemory

    made = tokenizer(tmp_path / "t", PLAIN)
    tokens = len(reader(made).read(request(prompt="a" * 50)).prompt)
    settings = {"context_length": tokens, "memory": PlannedMemory(request_bytes=tokens * 100)}
    wrong = refused(made, settings, prompt="a" * 50)
    assert (wrong.status, wrong.code, wrong.field) == (400, "prompt_too_long", "prompt")
    assert f"has {tokens} tokens, {tokens - 1} are allowed" in wrong.message
    assert f"take {(tokens + 1) * 100} bytes of memory, {tokens * 100} are allowed" in wrong.message
    longer = {"context_length": tokens + 1}
    assert reader(made, **longer).read(request(prompt="a" * 50)).sampling.max_tokens == 1


def test_what_is_too_deep_for_a_template_is_told_of_tools(tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "t", HERMES + "{% macro deeper() %}{{ deeper() }}{% endmacro %}{{ deeper() }}")
    wrong = refused(made, tools=[WEATHER.model_dump()])
    assert (wrong.status, wrong.code, wrong.field) == (400, "bad_messages", "tools")
    assert "RecursionError" not in wrong.message


def test_a_prompt_whose_length_alone_says_that_it_cannot_fit_is_not_tokenized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tokenizer(tmp_path / "t", PLAIN)
    read = reader(made).read

    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("it was tokenized")

    monkeypatch.setattr(made._tokenizer, "encode", never)
    for body in ({"prompt": "a" * 4000}, {"prompt": "a" * 4000, "raw": True}):
        with pytest.raises(ServiceError, match=r"has at least 30[0-9] tokens, 255 are allowed") as wrong:
            read(request(**body))
        assert (wrong.value.code, wrong.value.field) == ("prompt_too_long", "prompt")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% if %}", "line 1: Expected an expression"),
        ("{{ raise_exception('never') }}", "never"),
        (
            "{{ raise_exception('no system') if messages[0].role == 'system' else '' }}",
            "no s",
        ),
    ],
)
def test_a_template_of_the_spec_is_tried_when_it_is_loaded(tmp_path: Path, template: str, said: str) -> None:
    from mlx_lm.tokenizer_utils import load

    from mlspec.runners.mlx_lm.runtime_loaded import tokenizer_config

    made = load(TINY, tokenizer_config(template))
    with pytest.raises(ServiceError, match=said) as wrong:
        reader(made, chat_template="user/chat.jinja", system_prompt="Be brief.")
    assert (wrong.value.status, wrong.value.code) == (503, "bad_chat_template")
    assert "model.chat_template" in wrong.value.message


def test_a_template_of_the_spec_takes_the_place_of_the_models_own(tmp_path: Path) -> None:
    from mlx_lm.tokenizer_utils import load

    from mlspec.runners.mlx_lm.runtime_loaded import tokenizer_config
    from mlspec.runners.mlx_lm.runtime_templates import chat_template

    (tmp_path / "chat.jinja").write_text(HERMES, encoding="utf-8")
    template = chat_template(tmp_path, "chat.jinja")
    for extra in ({}, {"chat_template_type": "deepseek_v32"}):
        folder = tmp_path / f"model-{len(extra)}"
        shutil.copytree(TINY, folder)
        config = json.loads((TINY / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, **extra}))
        made = load(folder, tokenizer_config(template))
        assert made.has_tool_calling
        assert made.decode(reader(made, chat_template="chat.jinja").read(request()).prompt) == "user:Hi\n"
    with pytest.raises(ServiceError, match="FileNotFoundError") as wrong:
        chat_template(tmp_path, "none.jinja")
    assert wrong.value.code == "bad_chat_template"
