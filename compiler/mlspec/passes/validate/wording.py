"""A schema's errors as diagnostics: where, in which words, with which remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from mlspec.characters import quoted
from mlspec.passes.validate.checker import Misfit, as_json
from mlspec.passes.validate.findings import Findings, Part
from mlspec.passes.validate.phrases import TYPES, code_of, described, example_of, help_of, path_of, shown
from mlspec.suggest import closest, did_you_mean, listed

_MOST_SUGGESTIONS = 50
"""Keys of one map that are compared with the known ones."""


def report_misfit(misfit: Misfit, findings: Findings) -> None:
    """Put one misfit into the findings."""
    _SAY.get(misfit.keyword, _any_other)(misfit, findings)


def _wrong_type(misfit: Misfit, findings: Findings) -> None:
    wanted = misfit.wanted if isinstance(misfit.wanted, list) else [misfit.wanted]
    value, raw, path = misfit.value, findings.document.raw(misfit.pointer), path_of(misfit.pointer)
    if value is None:
        findings.error("wrong-type", f"{path} has no value", misfit.pointer, at="key", help=help_of(misfit.schema))
    elif "string" in wanted and isinstance(value, int | float) and not isinstance(value, bool) and raw is not None:
        written = quoted(raw)[1:-1]
        read = "a number" if written == str(value) else f"the number {value}"
        message = f"{path} must be a text: without quotes YAML reads {written} as {read}"
        findings.error("yaml-number", message, misfit.pointer, help=f'write it in quotes: "{written}"')
    else:
        names = " or ".join(TYPES.get(w, str(w)) for w in wanted)
        message = f"{path} must be {names}, not {described(value)}"
        findings.error("wrong-type", message, misfit.pointer, help=_type_help(wanted, value, misfit.schema))


def _type_help(wanted: list[str], value: Any, schema: Mapping[str, Any]) -> str:
    if "string" in wanted and isinstance(value, bool):
        return f'write it in quotes if the word is meant: "{str(value).lower()}"'
    if {"integer", "number"} & set(wanted) and isinstance(value, str):
        digits = value.replace("_", "").replace(",", "")
        if re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", digits):
            return f"write it without quotes: {digits}"
    return help_of(schema)


def _unknown_keys(misfit: Misfit, findings: Findings) -> None:
    known = misfit.schema.get("properties", {})
    free = [re.compile(p) for p in misfit.schema.get("patternProperties", {})]
    unknown = [k for k in misfit.value if k not in known and not any(p.search(k) for p in free)]
    unused = [k for k in known if k not in misfit.value]
    for count, key in enumerate(unknown):
        near = did_you_mean(key, unused) if count < _MOST_SUGGESTIONS else ""
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
        help = f"add {key}: {example_of(misfit.schema.get('properties', {}).get(key, {}))}".rstrip(": ")
        findings.error("missing-key", message, (*misfit.pointer, key), at="key", help=help)


def _misspelt(key: str, instance: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """True if a key that is there was already said to mean this one."""
    known = schema.get("properties", {})
    unused = [k for k in known if k not in instance]
    unknown = islice((k for k in instance if k not in known), _MOST_SUGGESTIONS)
    return schema.get("additionalProperties") is False and any(closest(k, unused) == key for k in unknown)


def _unknown_value(misfit: Misfit, findings: Findings) -> None:
    allowed = misfit.wanted if misfit.keyword == "enum" else [misfit.wanted]
    code = misfit.schema.get("x-mlspec-code", "unknown-value")
    message = f"{path_of(misfit.pointer)} can't be {shown(misfit.value)}"
    own_help = misfit.schema.get("errorMessage")
    label = "" if own_help else did_you_mean(misfit.value, map(str, allowed))
    help = own_help or f"it can be {listed(map(str, allowed), 'or')}"
    findings.error(code, message, misfit.pointer, label=label, help=help)


def _bad_text(misfit: Misfit, findings: Findings) -> None:
    code = misfit.schema.get("x-mlspec-code", "text-length" if misfit.keyword != "pattern" else "bad-value")
    help = misfit.schema.get("errorMessage") or ("shorten it" if misfit.keyword == "maxLength" else "write a text")
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
    findings.error("out-of-range", message, misfit.pointer, help=help_of(misfit.schema))


def _list_length(misfit: Misfit, findings: Findings) -> None:
    if misfit.keyword == "minItems":
        message = f"{path_of(misfit.pointer)} is an empty list"
        help = "leave the key out, or give an item" if "default" in misfit.schema else "give an item"
        findings.error("empty-list", message, misfit.pointer, help=help)
    else:
        message = f"{path_of(misfit.pointer)} has {len(misfit.value):,} items; {misfit.wanted:,} is the limit"
        findings.error("out-of-range", message, misfit.pointer, help="leave some out")


def _repeated_items(misfit: Misfit, findings: Findings) -> None:
    seen: set[str] = set()
    for index, item in enumerate(misfit.value):
        if (text := as_json(item)) in seen:
            message = f"{path_of(misfit.pointer)} has {shown(item)} twice"
            findings.error("duplicate-name", message, (*misfit.pointer, index), help="remove one of the two")
        seen.add(text)


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
    findings.error(code_of(misfit.schema), message, misfit.pointer, at="key", help=help_of(misfit.schema))


def _dependent(misfit: Misfit, findings: Findings) -> None:
    for key, needed in misfit.wanted.items():
        lacking = [k for k in needed if k not in misfit.value]
        if key in misfit.value and lacking:
            message = f"{path_of((*misfit.pointer, key))} is given without {listed(map(quoted, lacking))}"
            findings.error(
                code_of(misfit.schema), message, (*misfit.pointer, key), at="key", help=help_of(misfit.schema)
            )


def _any_other(misfit: Misfit, findings: Findings) -> None:
    """A keyword that only a plug-in's schema uses."""
    message = f"{path_of(misfit.pointer)} does not fit '{misfit.keyword}' of the runner's schema"
    findings.error(code_of(misfit.schema), message, misfit.pointer, help=help_of(misfit.schema))


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
