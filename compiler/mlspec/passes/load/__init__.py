"""load: a YAML file to plain data, with the place of each value.

The parser's events are read, not its objects: so nested brackets can't overflow a stack, an alias has the place of its
use, keys have places, and scalars keep the text that was written. Scalars are resolved by the YAML 1.2 core schema.
"""

from __future__ import annotations

from pathlib import Path

from mlspec.diagnostics import Report
from mlspec.model.document import Document
from mlspec.passes.load.characters import without_forbidden
from mlspec.passes.load.compose import compose
from mlspec.passes.load.expand import expand
from mlspec.passes.load.reading import read
from mlspec.source_text import SourceText


def load(path: Path, shown: str, report: Report) -> Document | None:
    """The document in `path`; `shown` is the path as diagnostics print it.

    None if there is nothing that could be validated. A document may come back although faults were reported: then
    `validate` finds the other faults in the same run, and gives no spec.
    """
    text = read(path, shown, report)
    return None if text is None else parse(text, path, shown, report)


def parse(text: str, path: Path, shown: str, report: Report) -> Document | None:
    """The document in a text that was read from `path`."""
    source = SourceText(text, shown)
    root = compose(without_forbidden(source, report), source, report)
    if root is None:
        return None
    data, places = expand(root, source)
    return Document(path, shown, text, data, places)
