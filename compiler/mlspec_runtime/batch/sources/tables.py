"""One file of rows after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.pieces import Piece
from mlspec_runtime.batch.sources import InputFile, Reader


class Tables:
    """Files with the same columns."""

    usual_keep: tuple[str, ...] | None = None

    def __init__(self, files: tuple[InputFile, ...], readers: Sequence[Reader]) -> None:
        self.files = files
        self._readers = readers

    def names(self) -> tuple[str, ...] | None:
        """The columns of the first file that tells; those that all have, where the others tell others."""
        told = [names for reader in self._readers if (names := reader.names()) is not None]
        return tuple(name for name in told[0] if all(name in names for names in told)) if told else None

    def rows(self) -> int | None:
        counts = [reader.rows() for reader in self._readers]
        return None if None in counts else sum(count or 0 for count in counts)

    def arrow_type(self, column: str) -> Any:
        types = [reader.arrow_type(column) for reader in self._readers]
        if any(one != types[0] for one in types):
            message = f"the column '{column}' has the type {types[0]} in one file and another one in others"
            raise BatchError("columns", message, "leave it out of --keep, or make the files alike")
        return types[0]

    def pieces(self, columns: Sequence[str], first: int) -> Iterator[Piece]:
        offset, before_bytes = 0, 0
        for file, reader in zip(self.files, self._readers, strict=True):
            skip, known = max(0, first - offset), reader.rows()
            if known is not None and skip >= known:
                offset += known
            else:
                found = reader.pieces(columns, skip, offset)
                offset += yield from _all(found, before_bytes)
            before_bytes += file.size_bytes


def _all(pieces: Any, before_bytes: int) -> Any:
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value
        begin = {"begin_bytes": before_bytes + piece.begin_bytes} if hasattr(piece, "begin_bytes") else {}
        yield replace(piece, read_bytes=before_bytes + piece.read_bytes, **begin)
