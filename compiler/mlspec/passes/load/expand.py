"""The tree of nodes to plain data and the place of each value; what an alias brings has the alias's place."""

from __future__ import annotations

from typing import Any

from mlspec.diagnostics import Span
from mlspec.model.document import Place, Pointer
from mlspec.passes.load.nodes import AliasNode, ListNode, MapNode, Node, ScalarNode
from mlspec.source_text import SourceText


def expand(root: Node, source: SourceText) -> tuple[Any, dict[Pointer, Place]]:
    """The data below `root` and where each part of it stands."""
    expansion = _Expansion(source)
    return expansion.value(root, (), None, None), expansion.places


class _Expansion:
    def __init__(self, source: SourceText) -> None:
        self._source = source
        self.places: dict[Pointer, Place] = {}

    def value(self, node: Node, pointer: Pointer, key: Span | None, alias: Span | None) -> Any:
        """`alias` is the place of the alias that this node comes by."""
        if isinstance(node, AliasNode):
            return self.value(node.target, pointer, key, alias or self._source.span(node.start, node.end))
        raw = node.raw if isinstance(node, ScalarNode) else None
        self.places[pointer] = Place(key, alias or self._source.trimmed(node.start, node.end), raw)
        if isinstance(node, ScalarNode):
            return node.value
        if isinstance(node, ListNode):
            return [self.value(item, (*pointer, i), None, alias) for i, item in enumerate(node.items)]
        return {name: self._entry(node, name, pointer, alias) for name in node.items}

    def _entry(self, node: MapNode, name: str, pointer: Pointer, alias: Span | None) -> Any:
        key = alias or self._source.trimmed(*node.keys[name])
        return self.value(node.items[name], (*pointer, name), key, alias)
