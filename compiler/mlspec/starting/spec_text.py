"""The text of a first spec."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlspec.characters import FORBIDDEN
from mlspec.rendering.environment import environment
from mlspec.rendering.filters import Safe, yaml
from mlspec.resources import folder

LONGEST_NAME = 40

# What every reader of YAML takes for a string without quotes, in a flow map too.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null|nan|inf)\Z)[a-z][a-z0-9_./-]*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Key:
    """A key with its value, of any JSON; `note` is a comment behind it. `off`: the whole is one."""

    name: str
    value: Any
    note: str = ""
    off: bool = False


@dataclass(frozen=True)
class Note:
    """A comment on a line of its own."""

    text: str


@dataclass(frozen=True)
class FirstModel:
    """What a runner makes of a folder: the keys of `model` (the runner's name is the first), of `service`, and tests.

    What is wanted of the user goes to `messages`. `certainty` weighs it against what other runners make of the folder:
    3 where only this runner's files look so, 2 where they mostly do, 1 where they may be another's.
    """

    model: tuple[Key | Note, ...]
    service: tuple[Key | Note, ...] = ()
    tests: tuple[Mapping[str, Any], ...] = ()
    tests_off: bool = False
    messages: tuple[str, ...] = ()
    certainty: int = 2


def spec_text(name: str, project: str, model: FirstModel, schema: str | None) -> str:
    """The spec, commented; `schema` is its schema's place for an editor.

    A user's string stands in it as a YAML scalar, or in printable ASCII in a comment.
    """
    template = environment(folder("templates")).get_template("init/spec.yaml.j2")
    service_off = all(isinstance(entry, Note) or entry.off for entry in model.service)
    rendered = template.render(
        name=scalar(name),
        project=scalar(project),
        model=[line for entry in model.model for line in _lines(entry)],
        service=[line for entry in model.service for line in _lines(_on(entry) if service_off else entry)],
        service_off=service_off,
        tests=_block("tests", model.tests, off=model.tests_off),
        schema=schema and in_comment(schema),
    )
    return str(rendered)


def dns_label(text: str, default: str) -> str:
    """A name made of any text: lower-case letters, digits and single dashes, at most 40."""
    label = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return label[:LONGEST_NAME].rstrip("-") or default


def is_dns_label(text: str) -> bool:
    return len(text) <= LONGEST_NAME and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text) is not None


def scalar(text: str) -> Safe:
    """A YAML scalar, in quotes where a reader could take it for something else."""
    return Safe(text) if _PLAIN.match(text) else Safe(FORBIDDEN.sub(lambda m: f"\\u{ord(m[0]):04x}", yaml(text)))


def in_comment(text: str) -> Safe:
    """Text that stays on its line, whatever it holds."""
    return Safe("".join(c if c.isprintable() and c.isascii() else "?" for c in text))


def _on(entry: Key | Note) -> Key | Note:
    return replace(entry, off=False) if isinstance(entry, Key) else entry


def _lines(entry: Key | Note) -> Iterator[Safe]:
    """An entry's lines, below a key of the top."""
    if isinstance(entry, Note):
        yield Safe(f"# {in_comment(entry.text)}")
        return
    single = [f"{scalar(entry.name)}: {_flow(entry.value)}"]
    lines = _block(entry.name, entry.value) if _is_block(entry.value) else single
    if entry.note:
        lines[0] = Safe(f"{lines[0]}  # {in_comment(entry.note)}")
    yield from (Safe(f"# {in_comment(line)}" if entry.off else line) for line in lines)


def _is_block(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value)


def _block(name: str, items: Any, *, off: bool = False) -> list[str]:
    """A list of maps, each on a line of its own; of tests (the maps in it say so) each key."""
    if not items:
        return []
    lines = [f"{scalar(name)}:"]
    for item in items:
        if any(isinstance(value, Mapping) for value in item.values()):
            first, *rest = (f"{scalar(key)}: {_flow(value)}" for key, value in item.items())
            lines += [f"  - {first}", *(f"    {line}" for line in rest)]
        else:
            lines.append(f"  - {_flow(item)}")
    return [Safe(f"# {in_comment(line)}" if off else line) for line in lines]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return scalar(value) if isinstance(value, str) else yaml(value)
