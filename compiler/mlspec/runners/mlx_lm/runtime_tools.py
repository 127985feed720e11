"""Tools, as a model's chat template and its answers have them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlspec_runtime.generate.messages import Message, Tool, ToolCall

MOST_CALLS = 8
"""That one answer is made to have: a small model may go on calling for ever."""
_ID_BYTES = 12


@dataclass(frozen=True)
class ToolMarks:
    """Between which texts a model writes its calls, and mlx_lm's parser of what is between them."""

    start: str
    end: str
    parser: Callable[[str, Any], Any]

    def calls(self, text: str, tools: Sequence[Tool]) -> list[ToolCall]:
        """The calls in a text. Raises ValueError where it is none, or none of these tools."""
        try:
            parsed = self.parser(text, definitions(tools))
        # There is one parser for each family, and what a model writes makes them fail in many ways.
        except Exception as problem:
            raise ValueError(f"not a call: {type(problem).__name__}") from problem
        known = {tool.name for tool in tools}
        return [_call(call, known) for call in (parsed if isinstance(parsed, list) else [parsed])]

    @property
    def are_json(self) -> bool:
        """Whether a call is written as a JSON object with `name` and `arguments`."""
        call = {"name": "f", "arguments": {"a": 1}}
        tool = Tool(name="f", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})
        try:
            [parsed] = self.calls(f"\n{json.dumps(call)}\n", [tool])
        except ValueError:
            return False
        return bool(self.end) and (parsed.name, json.loads(parsed.arguments)) == ("f", {"a": 1})

    def may_begin(self, text: str) -> bool:
        """Whether a text may be the beginning of a call, or of several."""
        return not self.are_json or text.lstrip()[:1] in ("", "{", "[")


def _call(parsed: Any, known: set[str]) -> ToolCall:
    if not isinstance(parsed, dict) or parsed.get("name") not in known:
        raise ValueError("not a call of a tool that is there")
    arguments = parsed.get("arguments", {})
    text = arguments if isinstance(arguments, str) else _written(arguments)
    own_id = parsed.get("id")
    id_ = own_id if isinstance(own_id, str) and own_id else f"call_{secrets.token_hex(_ID_BYTES)}"
    return ToolCall(id=id_, name=parsed["name"], arguments=text)


def _written(arguments: Any) -> str:
    try:
        return json.dumps(arguments, ensure_ascii=False)
    except RecursionError as problem:
        raise ValueError("arguments nested too deeply") from problem


def definitions(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as chat templates take them, which is OpenAI's form."""
    nothing = {"type": "object", "properties": {}}
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description or "",
                "parameters": tool.parameters if tool.parameters is not None else nothing,
            },
        }
        for tool in tools
    ]


def turn(message: Message) -> dict[str, Any]:
    """A message as chat templates take it: the arguments of calls are objects."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    if message.tool_calls is not None:
        fields["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        fields["name"] = message.name
    return fields


def calls_grammar(
    tools: Sequence[Tool],
    marks: ToolMarks,
    json_of: Callable[[Mapping[str, Any]], str],
    *,
    several: bool,
    special: Mapping[str, int],
    or_json: Mapping[str, Any] | None = None,
) -> str:
    """The Lark grammar, in llguidance's dialect, of calls of these tools in a model's own form, or of JSON of the
    schema `or_json` in place of them. `special` has the marks that are tokens without a text.
    """
    start, end = (_mark(mark, special) for mark in (marks.start, marks.end))
    again = f' ("\\n"? call){{0,{MOST_CALLS - 1}}}' if several else ""
    rules = [
        "start: calls" if or_json is None else "start: calls | json",
        f"calls: call{again}",
        f'call: {start} "\\n{{\\"name\\": \\"" tool "}}\\n" {end}',
        "tool: " + " | ".join(f"tool_{index}" for index in range(len(tools))),
        *(_tool_rule(index, tool, json_of) for index, tool in enumerate(tools)),
    ]
    if or_json is not None:
        rules.append(f"json: %json {json_of(or_json)}")
    return "\n".join(rules) + "\n"


def _tool_rule(index: int, tool: Tool, json_of: Callable[[Mapping[str, Any]], str]) -> str:
    # A tool's name has no character that means anything here. Arguments are an object, whatever else they could be.
    schema = {**(tool.parameters or {"additionalProperties": False}), "type": "object"}
    return f'tool_{index}: "{tool.name}\\", \\"arguments\\": " %json {json_of(schema)}'


def _mark(text: str, special: Mapping[str, int]) -> str:
    return f"<[{special[text]}]>" if text in special else json.dumps(text)
