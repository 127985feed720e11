"""A YAML file as plain data, with the place of each value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.diagnostics import Span

Pointer = tuple[str | int, ...]
"""A path into the data: keys of maps and indexes of lists. `()` is the whole document."""


@dataclass(frozen=True)
class Place:
    """Where a value stands: its key (None in a list and at the top), itself, and the text of a scalar as written."""

    key: Span | None
    value: Span
    raw: str | None = None


@dataclass(frozen=True)
class Document:
    """What `load` read: `data` is JSON data (dict, list, str, int, float, bool, None), never a YAML type."""

    path: Path
    shown: str
    """The path as a user would type it: what diagnostics print."""
    text: str
    data: Any
    places: Mapping[Pointer, Place]

    def value_span(self, pointer: Pointer) -> Span:
        """The value's place, or the nearest enclosing one that is known."""
        return self._nearest(pointer).value

    def key_span(self, pointer: Pointer) -> Span:
        """The key's place where the value has one, else the value's."""
        place = self._nearest(pointer)
        return place.key or place.value

    def raw(self, pointer: Pointer) -> str | None:
        """A scalar as it was written (`3.10` where the data holds 3.1)."""
        place = self.places.get(pointer)
        return place.raw if place else None

    def _nearest(self, pointer: Pointer) -> Place:
        while pointer not in self.places and pointer:
            pointer = pointer[:-1]
        return self.places.get(pointer) or Place(None, Span(self.shown))
