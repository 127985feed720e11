"""What plots are made of, in numbers that a template writes down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tick:
    """A mark at an axis: where along it, and what it says."""

    at: str
    label: str


@dataclass(frozen=True)
class Dot:
    """A point of a line; `title` is what a pointer over it shows."""

    x: str
    y: str
    title: str
