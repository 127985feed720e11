"""The parser's complaints in a user's words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ruamel.yaml.error import MarkedYAMLError

from mlspec.characters import visible
from mlspec.diagnostics import Related, Report, Span
from mlspec.source_text import SourceText

_QUOTES = "put the text into quotes"
_INDENTATION = "check the indentation: keys of one map start in the same column"


@dataclass(frozen=True)
class _Words:
    """`began` is what to call the place where the broken construct began, where that helps."""

    message: str
    help: str
    began: str = ""


_WHERE_IT_BEGAN = {
    "did not find expected ',' or ']'": _Words("the list '[' is not closed", "write ']', or ',' before the next item"),
    "did not find expected ',' or '}'": _Words("the map '{' is not closed", "write '}', or ',' before the next key"),
    "found unexpected end of stream": _Words("the quoted text is not closed", "write the quote at its end"),
    "found unknown directive name": _Words("a line that starts with '%' is a directive", _QUOTES),
    "found unexpected document indicator": _Words("the quoted text is not closed", "write the quote at its end"),
}
"""Complaints that are about where something began, not about where the parser gave up."""

_WORDS = {
    "mapping values are not allowed": _Words("': ' can't stand here", f"{_QUOTES}, or {_INDENTATION}"),
    "could not find expected ':'": _Words("a key without ':'", f"write 'key: value'; {_INDENTATION}", "the key"),
    "did not find expected key": _Words(
        "this does not belong to the map",
        _INDENTATION,
        "the map starts here",
    ),
    "did not find expected '-'": _Words(
        "this does not belong to the list", "start each item with '- ' in the same column", "the list starts here"
    ),
    "found unexpected ':'": _Words("between brackets a text with ':' needs quotes", _QUOTES),
    "found character that cannot start": _Words("no text starts with this character", _QUOTES),
    "found unknown escape character": _Words(
        "there is no such escape in double quotes", "write the backslash twice, or use single quotes"
    ),
    "found invalid Unicode character escape": _Words("this escape is not a character", "remove it"),
    "did not find expected hexdecimal number": _Words(
        "this escape lacks digits", r"write \x41, \u0041 or \U00000041, or the backslash twice"
    ),
    "block sequence entries are not allowed": _Words(
        "'- ' can't stand here", f"start the list on a new line, or {_QUOTES}"
    ),
    "did not find expected alphabetic": _Words("'&' (an anchor) and '*' (an alias) need a name", _QUOTES),
    "found undefined tag handle": _Words("this tag is not known", f"remove it, or {_QUOTES}"),
    "did not find expected node content": _Words("a value was expected here", f"write one, or {_QUOTES}"),
    "did not find expected <document start>": _Words("nothing may follow the document", "remove it"),
    "found incompatible YAML document": _Words("this YAML version is not known", "remove the line '%YAML'"),
    "did not find expected comment or line break": _Words(
        "only a comment may follow '|' or '>'", "start the text on the next line"
    ),
}
_AFTER_QUOTE = _Words("the quoted text is closed before this", "write a quote within it twice, or use the other quotes")
_TAB_IN_INDENTATION = re.compile(r" *\t[ \t]*")


def report_syntax_error(error: MarkedYAMLError, source: SourceText, report: Report) -> None:
    """One diagnostic for the fault that ended the parsing."""
    mark = error.problem_mark
    if mark is None:
        report.error("yaml-syntax", visible(str(error.problem)), source.span(0, 0), help=_QUOTES)
    elif not _reported_tab(int(mark.index), source, report):
        _report_words(error, int(mark.index), source, report)


def _reported_tab(index: int, source: SourceText, report: Report) -> bool:
    """Tabs for indentation are the cause of many complaints that don't name them."""
    line = source.span(index, index).line
    indentation = _TAB_IN_INDENTATION.match(source.line_text(line))
    if indentation is None:
        return False
    start = source.index(line)
    span = source.span(start, start + indentation.end())
    help = "indent with spaces; most editors have a setting for it"
    report.error("yaml-tab", "a tab in the indentation", span, help=help)
    return True


def _report_words(error: MarkedYAMLError, index: int, source: SourceText, report: Report) -> None:
    problem = str(error.problem)
    began = int(error.context_mark.index) if error.context_mark else index
    if problem.startswith("did not find expected") and _follows_quote(index, source.text):
        _report(_AFTER_QUOTE, index, began, "", source, report)
    elif words := _lookup(problem, _WHERE_IT_BEGAN):
        _report(words, began, index, "the parser gave up here", source, report)
    else:
        words = _lookup(problem, _WORDS) or _Words(f"this is not YAML: {visible(problem)}", _QUOTES)
        place = source.text.rfind("\\", began, index + 1) if "escape" in words.message else index
        _report(words, max(place, began), began, words.began, source, report)


def _follows_quote(index: int, text: str) -> bool:
    return index < len(text) and text[:index].rstrip(" ").endswith(("'", '"'))


def _report(words: _Words, index: int, second: int, note: str, source: SourceText, report: Report) -> None:
    """A second place is only worth a note on another line."""
    span, other = _character(index, source), _character(second, source)
    related = (Related(other, note),) if note and other.line != span.line else ()
    report.error("yaml-syntax", words.message, span, help=words.help, related=related)


def _lookup(problem: str, words: dict[str, _Words]) -> _Words | None:
    return next((found for start, found in words.items() if problem.startswith(start)), None)


def _character(index: int, source: SourceText) -> Span:
    """One character; at the end of the file the last one."""
    end = len(source.text.rstrip())
    return source.span(index, index + 1) if index < end else source.span(max(end - 1, 0), end)
