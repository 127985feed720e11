"""Paths into JSON data and typed specs: JSON pointers, and the steps of a fact or a data row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.model.document import Pointer

ABSENT = object()
"""Stands for a value that isn't there, where None is one."""


def at(data: Any, steps: list[str]) -> Any:
    """What the steps lead to, keys of maps and indexes of lists; ABSENT if they lead nowhere."""
    for step in steps:
        data = entry(data, int(step) if isinstance(data, list | tuple) and step.isdecimal() else step)
    return data


def entry(data: Any, key: str | int) -> Any:
    """One step of `at`."""
    if isinstance(data, list | tuple) and isinstance(key, int):
        return data[key] if key < len(data) else ABSENT
    return data.get(key, ABSENT) if isinstance(data, Mapping) else ABSENT


def pointer_of(path: str, data: Any) -> Pointer:
    """A JSON pointer (RFC 6901) as keys and indexes of this data."""
    found: list[str | int] = []
    for part in path.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found.append(int(key) if isinstance(data, list) and key.isdecimal() else key)
        data = entry(data, found[-1])
    return tuple(found)


def path_of(pointer: Pointer) -> str:
    """`targets[2].machine`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in pointer).lstrip(".")


def attribute(value: Any, pointer: Pointer) -> Any:
    """What a pointer means in the typed spec or target, with its defaults; ABSENT if it is none of theirs."""
    for step in pointer:
        value = entry(value, step) if isinstance(value, tuple | dict) else getattr(value, str(step), ABSENT)
    return value
