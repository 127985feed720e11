"""The filters by which a value enters a template: one for each language that it may land in.

Each returns `Safe` text. They refuse control characters, so no value can start a line of its own.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Callable
from typing import Any


class Safe(str):
    """Text that is fit to stand in the output as it is."""

    __slots__ = ()


class UnsafeValueError(ValueError):
    """A value that can't be written in the language it was to land in."""


def py(value: Any) -> Safe:
    """A Python literal of a string, number, bool, None, list, tuple or dict."""
    if isinstance(value, str):
        return Safe(_py_string(value))
    if isinstance(value, dict):
        return Safe("{" + ", ".join(f"{py(k)}: {py(v)}" for k, v in value.items()) + "}")
    if isinstance(value, list | tuple):
        items = [py(item) for item in value]
        if isinstance(value, list):
            return Safe("[" + ", ".join(items) + "]")
        return Safe("(" + ", ".join(items) + ("," if len(items) == 1 else "") + ")")
    if value is None or isinstance(value, bool | int | float):
        return Safe(repr(value))
    raise UnsafeValueError(f"no Python literal for {type(value).__name__}")


def sh(value: Any) -> Safe:
    """One word of a shell command."""
    return Safe(shlex.quote(_line(value)))


def dockerfile(value: Any) -> Safe:
    """A double-quoted value of a Dockerfile's ENV or LABEL: nothing in it is expanded."""
    return Safe('"' + re.sub(r'(["\\$])', r"\\\1", _line(value)) + '"')


def word(value: Any) -> Safe:
    """A bare word: an image, a package, a port, a variable's name. Anything else is refused.

    Several words may be given with single spaces between them.
    """
    text = _line(value)
    if not re.fullmatch(r"[A-Za-z0-9._+:/@-]+( [A-Za-z0-9._+:/@-]+)*", text):
        raise UnsafeValueError(f"{text!r} can't stand bare here")
    return Safe(text)


def exec_form(value: Any) -> Safe:
    """A command of a Dockerfile as a JSON list of words, so that no shell reads it."""
    return Safe(json.dumps([_line(word) for word in value]))


def yaml(value: Any) -> Safe:
    """A YAML scalar or flow collection: JSON, which every YAML parser reads the same way."""
    return Safe(json.dumps(value, ensure_ascii=False, allow_nan=False))


def md(value: Any) -> Safe:
    """Text of a Markdown paragraph, heading or table cell, with no mark-up of its own; its lines become one."""
    text = re.sub(r"([\\`*_\[\]<>#|&~!$])", r"\\\1", _line(" ".join(str(value).split())))
    return Safe(re.sub(r"^(\s*(?:\d+)?)([-+=.)])", r"\1\\\2", text))


def code(value: Any) -> Safe:
    """A code span of Markdown, also in a table's cell."""
    text = _line(value).replace("|", r"\|")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return Safe(f"{fence}{space}{text}{space}{fence}")


def as_json(value: Any) -> str:
    """JSON on one line; not `Safe`: it must pass the filter of the language it lands in."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


FILTERS: dict[str, Callable[..., Any]] = {
    "py": py,
    "sh": sh,
    "dockerfile": dockerfile,
    "word": word,
    "exec_form": exec_form,
    "yaml": yaml,
    "md": md,
    "code": code,
    "json": as_json,
}


def _py_string(value: str) -> str:
    plain = value.isascii() and value.isprintable() and '"' not in value and "\\" not in value
    return f'"{value}"' if plain else ascii(value)


def _line(value: Any) -> str:
    """The value as text that stays on its line."""
    text = str(value)
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise UnsafeValueError(f"a control character (U+{ord(character):04X}) can't be written here")
    return text
