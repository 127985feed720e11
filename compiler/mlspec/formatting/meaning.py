"""What a YAML text says, apart from its layout: to check that formatting changed nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlspec.formatting.scan import scanned


@dataclass
class _Open:
    """A collection whose end wasn't reached."""

    kind: str
    head: Sequence[object]
    children: list[str] = field(default_factory=list)

    def digest(self) -> str:
        children = self.children
        if self.kind == "Mapping":
            children = sorted("=".join(children[i : i + 2]) for i in range(0, len(children), 2))
        return _digest([self.kind, *self.head, *children])


def meaning(text: str) -> str:
    """A digest of the values, quotes, tags, anchors and aliases of a text; the order of keys doesn't count.

    Nothing is expanded, so a text is not dearer than it is long.

    Raises:
        ruamel.yaml.error.MarkedYAMLError: the text is no YAML, or not one document.
    """
    from ruamel.yaml import YAML

    stack, anchors = [_Open("Stream", ())], set[str]()
    for event in YAML(typ="safe", pure=True).parse(text):
        kind = type(event).__name__.removesuffix("Event")
        if kind in ("Alias", "Scalar"):
            stack[-1].children.append(_leaf(kind, event, anchors))
        elif kind in ("MappingStart", "SequenceStart", "DocumentStart"):
            _refuse_second_document(kind, stack[-1], event)
            stack.append(_opened(kind.removesuffix("Start"), event, anchors))
        elif kind in ("MappingEnd", "SequenceEnd", "DocumentEnd"):
            closed = stack.pop()
            stack[-1].children.append(closed.digest())
    return stack[0].digest()


def comments(text: str) -> list[str]:
    """All comments, sorted, without the spaces around them."""
    found = scanned(text)
    columns = ((line, found.comment_column(line)) for line in range(len(found.lines)))
    return sorted(found.lines[line][column:].rstrip() for line, column in columns if column is not None)


def _refuse_second_document(kind: str, around: _Open, event: Any) -> None:
    from ruamel.yaml.composer import ComposerError

    if kind == "DocumentStart" and around.children:
        raise ComposerError(problem="a second document begins", problem_mark=event.start_mark)


def _leaf(kind: str, event: Any, anchors: set[str]) -> str:
    from ruamel.yaml.composer import ComposerError

    if kind == "Alias":
        if event.anchor not in anchors:
            raise ComposerError(problem=f"undefined alias '{event.anchor}'", problem_mark=event.start_mark)
        return _digest([kind, event.anchor])
    return _digest([kind, *_head(event, anchors), event.value, event.style])


def _opened(kind: str, event: Any, anchors: set[str]) -> _Open:
    return _Open(kind, () if kind == "Document" else (*_head(event, anchors), event.flow_style))


def _head(event: Any, anchors: set[str]) -> tuple[object, ...]:
    from ruamel.yaml.composer import ComposerError

    if event.anchor in anchors:
        raise ComposerError(problem=f"duplicate anchor '{event.anchor}'", problem_mark=event.start_mark)
    anchors.update([event.anchor] if event.anchor else [])
    return (event.anchor, str(event.tag) if event.tag else None)


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(repr(list(parts)).encode("utf-8", "surrogatepass")).hexdigest()
