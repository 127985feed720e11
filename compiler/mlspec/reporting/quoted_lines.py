"""The lines of a user's files as a report may quote them: no secret in them can be read."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from mlspec.diagnostics import Report, Span
from mlspec.secrets import likely_secrets, masked
from mlspec.source_text import SourceText

MAX_BYTES = 1_048_576
_BOM = "\ufeff"


class QuotedLines:
    """Looks lines up by file and number; a file is read once."""

    def __init__(self, read: Callable[[str], str | None], report: Report) -> None:
        self._read = read
        self._secrets = list(_secret_spans(report))
        self._files: dict[str, SourceText | None] = {}

    def line(self, file: str, number: int) -> str | None:
        """The line, counted from 1, without its end; None if the file can't be quoted."""
        if file not in self._files:
            self._files[file] = self._masked(file)
        source = self._files[file]
        return None if source is None else source.line_text(number)

    def _masked(self, file: str) -> SourceText | None:
        text = self._read(file)
        if text is None:
            return None
        source = SourceText(text, file)
        spans = [s for s in self._secrets if s.file == file]
        found = [(source.index(s.line, s.column), source.index(s.end_line, s.end_column)) for s in spans]
        return SourceText(masked(text, [*found, *likely_secrets(text)]), file)


def read_file(file: str) -> str | None:
    """The text of a file by the name that it has in a report; None if it isn't a file that one can read."""
    try:
        path = Path(file)
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_BYTES:
            return None
        with path.open(encoding="utf-8", errors="replace", newline="") as opened:
            text = opened.read().removeprefix(_BOM)
    except (OSError, ValueError):  # the report itself says what is wrong with the file
        return None
    return None if "\0" in text else text


def _secret_spans(report: Report) -> Iterator[Span]:
    for found in report:
        if found.code == "secret":
            yield found.span
            yield from (related.span for related in found.related)
