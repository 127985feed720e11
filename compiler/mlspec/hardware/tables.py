"""The data files: read when first asked for, by the C parser, once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@cache
def table(name: str) -> Mapping[str, Any]:
    """The data file of this name (`chips`, `machines`, `working_set`, …), row by row."""
    from ruamel.yaml import YAML

    found: Mapping[str, Any] = YAML(typ="safe", pure=False).load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def row_of(origin: str) -> Mapping[str, Any] | None:
    """The row that an origin like `data:chips/Apple M2 Max/gpu/0` comes from: the innermost map with a source."""
    kind, _, path = origin.partition(":")
    name, *steps = path.split("/")
    if kind != "data" or not (DATA / f"{name}.yaml").is_file():
        return None
    value: Any = table(name)
    found = None
    for step in [*steps, None]:
        if isinstance(value, Mapping) and "source" in value:
            found = value
        if step is not None:
            value = _below(value, step)
    return found


def _below(value: Any, step: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(value, list) and step.isascii() and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return None
