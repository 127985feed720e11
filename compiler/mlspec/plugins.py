"""Parts that are one folder each, found by name: built in, or installed under an entry point of the same name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent


def find(kind: str, name: str) -> Any | None:
    """The part `name` of a kind (`runners`, `backends`), or None. Entry points are only asked if none is built in."""
    folder = name.replace("-", "_")
    if folder.isidentifier() and _is_built_in(kind, folder):
        return _part(kind, folder)
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=f"mlspec.{kind}", name=name)), None)
    return found.load() if found else None


def names(kind: str) -> tuple[str, ...]:
    """All names of a kind that a spec may use here, sorted. Scans the entry points: for messages, not for a build."""
    from importlib.metadata import entry_points

    folders = (file.parent.name for file in (_PACKAGE / kind).glob("*/build.py"))
    built_in = {folder.replace("_", "-") for folder in folders if _part(kind, folder) is not None}
    return tuple(sorted(built_in | {point.name for point in entry_points(group=f"mlspec.{kind}")}))


def _is_built_in(kind: str, folder: str) -> bool:
    return (_PACKAGE / kind / folder / "build.py").is_file()


def _part(kind: str, folder: str) -> Any | None:
    """The part of a folder; None where it is another name of one whose folder was removed."""
    try:
        return import_module(f"mlspec.{kind}.{folder}.build").PART
    except ModuleNotFoundError as problem:
        outer, _, other = (problem.name or "").removesuffix(".build").rpartition(".")
        if outer == f"mlspec.{kind}" and not _is_built_in(kind, other):
            return None
        raise
