"""Parts that are one folder each, found by name: built in, or installed under an entry point of the same name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent


def find(kind: str, name: str) -> Any | None:
    """The part `name` of a kind (`runners`, `backends`), or None. Entry points are only asked if none is built in."""
    folder = name.replace("-", "_")
    if folder.isidentifier() and (_PACKAGE / kind / folder / "build.py").is_file():
        return import_module(f"mlspec.{kind}.{folder}.build").PART
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=f"mlspec.{kind}", name=name)), None)
    return found.load() if found else None


def names(kind: str) -> tuple[str, ...]:
    """All names of a kind that a spec may use here, sorted. Scans the entry points: for messages, not for a build."""
    from importlib.metadata import entry_points

    built_in = {f.parent.name.replace("_", "-") for f in (_PACKAGE / kind).glob("*/build.py")}
    return tuple(sorted(built_in | {point.name for point in entry_points(group=f"mlspec.{kind}")}))
