"""The parser's events as a tree, with the places of all parts (indexes of characters, the end exclusive)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlspec.passes.load.scalars import Scalar

MAX_DEPTH = 64
"""Levels of nesting that a file may have."""
_CHARACTERS_A_NODE = 64


@dataclass(slots=True)
class ScalarNode:
    start: int
    end: int
    value: Scalar
    raw: str

    @property
    def size(self) -> int:
        """What a copy by an alias costs: long texts count more."""
        return 1 + len(self.raw) // _CHARACTERS_A_NODE


@dataclass(slots=True)
class ListNode:
    start: int
    end: int = 0
    items: list[Node] = field(default_factory=list)
    size: int = 1


@dataclass(slots=True)
class MapNode:
    """`keys` holds the place of each key."""

    start: int
    end: int = 0
    items: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    size: int = 1


@dataclass(slots=True)
class AliasNode:
    start: int
    end: int
    target: Node

    @property
    def size(self) -> int:
        return self.target.size


Node = ScalarNode | ListNode | MapNode | AliasNode
