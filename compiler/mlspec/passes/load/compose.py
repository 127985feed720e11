"""Parser events to a tree of nodes: keys, anchors and aliases, and all that YAML allows and a spec does not."""

from __future__ import annotations

from collections.abc import Iterator

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from mlspec.characters import quoted
from mlspec.diagnostics import Related, Report
from mlspec.passes.load.nodes import MAX_DEPTH, AliasNode, ListNode, MapNode, Node, ScalarNode
from mlspec.passes.load.remedies import of_empty_file, of_second_document
from mlspec.passes.load.scalar_nodes import CORE_TAGS, scalar_node, shown_tag
from mlspec.passes.load.syntax import report_syntax_error
from mlspec.source_text import SourceText

MAX_ALIASED_NODES = 100_000
_NO_MERGE = "write the keys out, or let an alias stand for the whole map: `service: *shared`"


class _StopError(Exception):
    """Nothing can be made of the rest; the fault was reported."""


def compose(text: str, source: SourceText, report: Report) -> Node | None:
    """The root of the file's one document; None after a fault after which nothing can be validated.

    `text` is the source's, without the characters that the parser refuses.
    """
    events: Iterator[Event] = YAML(typ="safe", pure=False).parse(text)
    try:
        return _Composer(events, source, report).document()
    except MarkedYAMLError as error:
        report_syntax_error(error, source, report)
    except _StopError:
        pass
    return None


class _Composer:
    """Reads one document from the events."""

    def __init__(self, events: Iterator[Event], source: SourceText, report: Report) -> None:
        self._events = events
        self._source = source
        self._report = report
        self._anchors: dict[str, Node | None] = {}
        self._aliased_nodes = 0

    def document(self) -> Node | None:
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                root = self._node(next(self._events), 0)
                self._check_last()
                return None if self._empty(root) else root
        self._error("empty-file", "the file holds no YAML", 0, 0, self._remedy_if_empty)
        return None

    @property
    def _remedy_if_empty(self) -> str:
        return of_empty_file(self._source.shown)

    def _empty(self, root: Node) -> bool:
        if not (isinstance(root, ScalarNode) and root.value is None):
            return False
        self._error("empty-file", "the document is empty", root.start, root.end, self._remedy_if_empty)
        return True

    def _check_last(self) -> None:
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                start, end = _range(event)
                help = of_second_document(self._source.shown)
                self._error("yaml-many-documents", "a second document starts here", start, end, help)
                return

    def _node(self, event: Event, depth: int) -> Node:
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH:
            self._stop("yaml-too-deep", f"more than {MAX_DEPTH} levels of nesting", event, "a spec needs about eight")
        if isinstance(event, ScalarEvent):
            node: Node = scalar_node(event, self._source, self._report)
        elif isinstance(event, SequenceStartEvent):
            node = self._list(event, depth)
        else:
            assert isinstance(event, MappingStartEvent)  # noqa: S101 - the parser has no other event here
            node = self._map(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _list(self, event: SequenceStartEvent, depth: int) -> ListNode:
        self._open(event)
        node = ListNode(event.start_mark.index)
        while not isinstance(item := next(self._events), SequenceEndEvent):
            child = self._node(item, depth + 1)
            node.items.append(child)
            node.size += child.size
        node.end = self._end_of(event, item, node.items)
        return node

    def _map(self, event: MappingStartEvent, depth: int) -> MapNode:
        self._open(event)
        node = MapNode(event.start_mark.index)
        while not isinstance(key := next(self._events), MappingEndEvent):
            name = self._key(key, depth + 1)
            value = self._node(next(self._events), depth + 1)
            self._put(node, name, key, value)
        last = list(node.items.values())
        node.end = self._end_of(event, key, last)
        return node

    def _put(self, node: MapNode, name: str | None, key: Event, value: Node) -> None:
        if name is None:
            return
        start, end = _range(key)
        if name in node.keys:
            first = Related(self._source.trimmed(*node.keys[name]), "it is first given here")
            help = "remove one of the two"
            span = self._source.trimmed(start, end)
            message = f"the key {quoted(name)} is given twice"
            self._report.error("yaml-duplicate-key", message, span, help=help, related=(first,))
            return
        node.keys[name] = (start, end)
        node.items[name] = value
        node.size += 1 + value.size

    def _key(self, event: Event, depth: int) -> str | None:
        """The key's text; None if there is none to go on with."""
        node = self._node(event, depth)
        target = node.target if isinstance(node, AliasNode) else node
        if not isinstance(target, ScalarNode):
            self._error("yaml-key", "a list or map can't be a key", node.start, node.end, "a key is a text")
            return None
        if target.raw == "<<" and isinstance(event, ScalarEvent) and not event.style:
            self._stop("yaml-merge-key", "merge keys (`<<`) are not part of a spec", event, _NO_MERGE)
        if not isinstance(target.value, str):
            help = f'write it in quotes: "{target.raw}"' if target.raw else "write the key before the colon"
            self._error("yaml-key", f"the key {quoted(target.raw)} is not a text", node.start, node.end, help)
            return target.raw or None
        return target.value

    def _alias(self, event: AliasEvent) -> Node:
        start, end = _range(event)
        target = self._anchors.get(event.anchor)
        if target is None:
            self._report_alias(event.anchor, start, end)
            return ScalarNode(start, end, None, "")
        self._aliased_nodes += target.size
        if self._aliased_nodes > MAX_ALIASED_NODES:
            message = f"the aliases stand for more than {MAX_ALIASED_NODES:,} values"
            self._stop("yaml-alias-bomb", message, event, "write out what is needed")
        return AliasNode(start, end, target)

    def _report_alias(self, anchor: str, start: int, end: int) -> None:
        if anchor in self._anchors:
            message = f"the alias {quoted('*' + anchor)} stands within what it names"
        else:
            message = f"there is no anchor {quoted('&' + anchor)} before this alias"
        help = f"mark a value with '&{anchor}' first; quote a text that starts with '*'"
        self._error("yaml-alias", message, start, end, help)

    def _open(self, event: CollectionStartEvent) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if event.tag is not None and event.tag not in CORE_TAGS:
            start, end = _range(event)
            self._error("yaml-tag", f"the tag {shown_tag(event.tag)} is not known", start, end, "remove it")

    def _end_of(self, first: CollectionStartEvent, last: Event, items: list[Node]) -> int:
        """A block reaches to the next token for the parser; for a reader it ends with its last part."""
        if first.flow_style or not items:
            return int(last.end_mark.index)
        return items[-1].end

    def _stop(self, code: str, message: str, event: Event, help: str) -> None:
        self._error(code, message, *_range(event), help)
        raise _StopError

    def _error(self, code: str, message: str, start: int, end: int, help: str) -> None:
        self._report.error(code, message, self._source.trimmed(start, end), help=help)


def _range(event: Event) -> tuple[int, int]:
    return int(event.start_mark.index), int(event.end_mark.index)
