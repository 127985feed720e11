"""A scalar event to a node: its tag, its style and its value."""

from __future__ import annotations

from ruamel.yaml.events import ScalarEvent

from mlspec.characters import quoted
from mlspec.diagnostics import Report
from mlspec.passes.load.characters import check_escapes
from mlspec.passes.load.nodes import ScalarNode
from mlspec.passes.load.scalars import Scalar, UnfitError, resolve
from mlspec.source_text import SourceText

_PREFIX = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset({"!", f"{_PREFIX}str"})
_TYPES: dict[str, tuple[type, ...]] = {
    f"{_PREFIX}int": (int,),
    f"{_PREFIX}float": (float, int),
    f"{_PREFIX}bool": (bool,),
    f"{_PREFIX}null": (type(None),),
}
CORE_TAGS = frozenset({"!", f"{_PREFIX}map", f"{_PREFIX}seq"})
"""The tags that a list or map may have; they change nothing."""


def scalar_node(event: ScalarEvent, source: SourceText, report: Report) -> ScalarNode:
    """The node of a scalar, with what is wrong with it reported; its value is then the text as written."""
    start, end = _inner(event, source)
    raw = event.value if not event.style else source.text[start:end]
    if event.style == '"':
        check_escapes(event.value, start, end, source, report)
    try:
        value = _value(event)
    except UnfitError as unfit:
        whole = int(event.start_mark.index) if unfit.code == "yaml-tag" else start
        report.error(unfit.code, unfit.message, source.trimmed(whole, end), help=unfit.help)
        value = event.value
    return ScalarNode(start, end, value, raw)


def _value(event: ScalarEvent) -> Scalar:
    if event.tag is None:
        return event.value if event.style else resolve(event.value)
    if event.tag in _TEXT_TAGS:
        return str(event.value)
    value = resolve(event.value)
    wanted = _TYPES.get(event.tag)
    if wanted is None or not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        raise UnfitError(
            "yaml-tag", f"the tag {shown_tag(event.tag)} is not known, or does not fit the value", "remove the tag"
        )
    return value


def shown_tag(tag: str) -> str:
    """A tag as one writes it."""
    return quoted(tag.replace(_PREFIX, "!!", 1))


def _inner(event: ScalarEvent, source: SourceText) -> tuple[int, int]:
    """The scalar's range without the anchor and tag before it and the blanks behind it."""
    start, end = int(event.start_mark.index), int(event.end_mark.index)
    while end > start and source.text[end - 1] in " \t\r\n":
        end -= 1
    plain_start = end - len(event.value)
    if not event.style and plain_start >= start and source.text[plain_start:end] == event.value:
        start = plain_start
    return start, end
