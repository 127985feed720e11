"""A schema's errors as diagnostics: where, in which words, with which remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.passes.validate.checker import Misfit
from mlspec.passes.validate.findings import Findings, Part
from mlspec.suggest import closest, did_you_mean, listed

_TYPES = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a map of keys and values",
    "null": "nothing",
}


def report_misfit(misfit: Misfit, findings: Findings) -> None:
    """Put one misfit into the findings."""
    _SAY.get(misfit.keyword, _any_other)(misfit, findings)


def path_of(pointer: Pointer) -> str:
    """`model.adapters[0].name`, for people; `the spec` for the whole."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{_in_path(p)}" for p in pointer).lstrip(".")
    return text or "the file"


def _in_path(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", key) else quoted(key)


def _wrong_type(misfit: Misfit, findings: Findings) -> None:
    wanted = misfit.wanted if isinstance(misfit.wanted, list) else [misfit.wanted]
    value, raw, path = misfit.value, findings.document.raw(misfit.pointer), path_of(misfit.pointer)
    if value is None:
        findings.error("wrong-type", f"{path} has no value", misfit.pointer, at="key", help=_help(misfit.schema))
    elif "string" in wanted and isinstance(value, int | float) and not isinstance(value, bool) and raw is not None:
        written = quoted(raw)[1:-1]
        read = "a number" if written == str(value) else f"the number {value}"
        message = f"{path} must be a text: without quotes YAML reads {written} as {read}"
        findings.error("yaml-number", message, misfit.pointer, help=f'write it in quotes: "{written}"')
    else:
        names = " or ".join(_TYPES.get(w, str(w)) for w in wanted)
        message = f"{path} must be {names}, not {_described(value)}"
        findings.error("wrong-type", message, misfit.pointer, help=_type_help(wanted, value, misfit.schema))


def _described(value: Any) -> str:
    """What stands there: the type, never the value (it may be a secret)."""
    kinds = ((bool, "boolean"), (str, "string"), (int, "integer"), (float, "number"), (list, "array"), (dict, "object"))
    return next((_TYPES[name] for kind, name in kinds if isinstance(value, kind)), "nothing")


def _shown(value: Any) -> str:
    """A scalar as it is; of a list or map only what it is."""
    return _described(value) if isinstance(value, list | dict) else quoted(value)


def _type_help(wanted: list[str], value: Any, schema: Mapping[str, Any]) -> str:
    if "string" in wanted and isinstance(value, bool):
        return f'write it in quotes if the word is meant: "{str(value).lower()}"'
    if {"integer", "number"} & set(wanted) and isinstance(value, str):
        digits = value.replace("_", "").replace(",", "")
        if re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", digits):
            return f"write it without quotes: {digits}"
    return _help(schema)


def _unknown_keys(misfit: Misfit, findings: Findings) -> None:
    known = misfit.schema.get("properties", {})
    free = [re.compile(p) for p in misfit.schema.get("patternProperties", {})]
    for key in misfit.value:
        if key in known or any(p.search(key) for p in free):
            continue
        unused = [k for k in known if k not in misfit.value]
        near = did_you_mean(key, unused)
        message = f"{quoted(key)} is not a key of {path_of(misfit.pointer)}"
        help = "" if near else f"the keys here are {listed(known)}; keys of your own start with 'x-'"
        findings.error("unknown-key", message, (*misfit.pointer, key), at="key", label=near, help=help)


def _missing_keys(misfit: Misfit, findings: Findings) -> None:
    for key in misfit.wanted:
        if key in misfit.value:
            continue
        if _misspelt(key, misfit.value, misfit.schema):
            findings.leave_out((*misfit.pointer, key))
            continue
        message = f"{path_of(misfit.pointer)} lacks the key {quoted(key)}"
        help = f"add {key}: {_example(misfit.schema.get('properties', {}).get(key, {}))}".rstrip(": ")
        findings.error("missing-key", message, (*misfit.pointer, key), at="key", help=help)


def _misspelt(key: str, instance: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """True if a key that is there was already said to mean this one."""
    known = schema.get("properties", {})
    unused = [k for k in known if k not in instance]
    closed = schema.get("additionalProperties") is False
    return closed and any(k not in known and closest(k, unused) == key for k in instance)


def _unknown_value(misfit: Misfit, findings: Findings) -> None:
    allowed = misfit.wanted if misfit.keyword == "enum" else [misfit.wanted]
    code = misfit.schema.get("x-mlspec-code", "unknown-value")
    message = f"{path_of(misfit.pointer)} can't be {_shown(misfit.value)}"
    own_help = misfit.schema.get("x-mlspec-help")
    label = "" if own_help else did_you_mean(misfit.value, map(str, allowed))
    help = own_help or f"it can be {listed(map(str, allowed), 'or')}"
    findings.error(code, message, misfit.pointer, label=label, help=help)


def _bad_text(misfit: Misfit, findings: Findings) -> None:
    code = misfit.schema.get("x-mlspec-code", "text-length" if misfit.keyword != "pattern" else "bad-value")
    help = misfit.schema.get("x-mlspec-help") or ("shorten it" if misfit.keyword == "maxLength" else "write a text")
    at: Part = "key" if misfit.is_key else "value"
    findings.error(code, _text_message(misfit), misfit.pointer, at=at, help=help)


def _text_message(misfit: Misfit) -> str:
    whose = f"a key of {path_of(misfit.pointer[:-1])}" if misfit.is_key else path_of(misfit.pointer)
    if misfit.keyword == "pattern":
        return f"{quoted(misfit.value)} is not fit for {whose}"
    if misfit.keyword == "maxLength":
        return f"{whose} has {len(misfit.value):,} characters; {misfit.wanted:,} is the limit"
    return f"{whose} is empty"


_BOUNDS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}


def _out_of_range(misfit: Misfit, findings: Findings) -> None:
    bound = f"{_BOUNDS[misfit.keyword]} {misfit.wanted:,}"
    message = f"{path_of(misfit.pointer)} is {quoted(misfit.value)[1:-1]}; it must be {bound}"
    findings.error("out-of-range", message, misfit.pointer, help=_help(misfit.schema))


def _list_length(misfit: Misfit, findings: Findings) -> None:
    if misfit.keyword == "minItems":
        message = f"{path_of(misfit.pointer)} is an empty list"
        help = "leave the key out, or give an item" if "default" in misfit.schema else "give an item"
        findings.error("empty-list", message, misfit.pointer, help=help)
    else:
        message = f"{path_of(misfit.pointer)} has {len(misfit.value):,} items; {misfit.wanted:,} is the limit"
        findings.error("out-of-range", message, misfit.pointer, help="leave some out")


def _repeated_items(misfit: Misfit, findings: Findings) -> None:
    for index, item in enumerate(misfit.value):
        if item in misfit.value[:index]:
            message = f"{path_of(misfit.pointer)} has {_shown(item)} twice"
            findings.error("duplicate-name", message, (*misfit.pointer, index), help="remove one of the two")


def _wrong_source(misfit: Misfit, findings: Findings) -> None:
    """`oneOf` over required keys: none of them is given, or more than one."""
    if not isinstance(misfit.value, dict):
        return
    choices = [k for branch in misfit.wanted for k in branch.get("required", ())]
    given = [k for k in choices if k in misfit.value]
    if not given and any(closest(k, choices) for k in misfit.value if k not in choices):
        return
    problem = f"gives {listed(given)}" if given else f"gives none of {listed(choices)}"
    message = f"{path_of(misfit.pointer)} {problem}"
    findings.error(_code(misfit.schema), message, misfit.pointer, at="key", help=_help(misfit.schema))


def _dependent(misfit: Misfit, findings: Findings) -> None:
    for key, needed in misfit.wanted.items():
        lacking = [k for k in needed if k not in misfit.value]
        if key in misfit.value and lacking:
            message = f"{path_of((*misfit.pointer, key))} is given without {listed(map(quoted, lacking))}"
            findings.error(_code(misfit.schema), message, (*misfit.pointer, key), at="key", help=_help(misfit.schema))


def _any_other(misfit: Misfit, findings: Findings) -> None:
    """A keyword that only a plug-in's schema uses."""
    message = f"{path_of(misfit.pointer)} does not fit '{misfit.keyword}' of the runner's schema"
    findings.error(_code(misfit.schema), message, misfit.pointer, help=_help(misfit.schema))


def _code(schema: Mapping[str, Any]) -> str:
    return str(schema.get("x-mlspec-code", "bad-value"))


def _help(schema: Mapping[str, Any]) -> str:
    example = _example(schema)
    return str(schema.get("x-mlspec-help") or (f"for example: {example}" if example else ""))


def _example(schema: Mapping[str, Any]) -> str:
    """The schema's first example in one line of YAML."""
    examples = schema.get("examples") or [schema.get("default", "")]
    return _in_yaml(examples[0]) if examples[0] != "" else ""


def _in_yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_in_yaml, value)) + "]"
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9 ./_=-]*", value) is not None
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


_SAY: Mapping[str, Callable[[Misfit, Findings], None]] = {
    "type": _wrong_type,
    "additionalProperties": _unknown_keys,
    "required": _missing_keys,
    "enum": _unknown_value,
    "const": _unknown_value,
    "pattern": _bad_text,
    "minLength": _bad_text,
    "maxLength": _bad_text,
    **dict.fromkeys(_BOUNDS, _out_of_range),
    "minItems": _list_length,
    "maxItems": _list_length,
    "uniqueItems": _repeated_items,
    "oneOf": _wrong_source,
    "dependentRequired": _dependent,
}
