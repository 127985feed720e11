"""Where rows come from: files of tables, or folders of images and texts, read in pieces."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mlspec_runtime.batch.pieces import Piece

PIECE_ROWS = 8192
PIECE_BYTES = 8 << 20
"""A piece ends at whichever comes first."""
CELL_BYTES = 64 << 20
"""A line or a field beyond that is none that a model takes."""


@dataclass(frozen=True)
class InputFile:
    """A file of the input, as it was when the batch began. `fault`: why it can't be taken, if it can't."""

    path: Path
    size_bytes: int
    mtime_ns: int
    fault: str = ""


class Reader(Protocol):
    """One file of a table."""

    def names(self) -> tuple[str, ...] | None:
        """Its columns; None if it has no rows that tell."""

    def rows(self) -> int | None:
        """How many it has; None where only reading tells."""

    def pieces(self, columns: Sequence[str], skip: int, offset: int) -> Generator[Piece, None, int]:
        """Its rows from `skip` on, numbered from `offset` + `skip`, with these columns; at the end how many rows it has
        in all. `read_bytes` are those of this file.

        Raises:
            BatchError: it is not what its name says.
        """

    def arrow_type(self, column: str) -> Any:
        """The column's type, where the file has one (pyarrow's); None if it has none."""


class Source(Protocol):
    """All of the input. Files are in their order."""

    files: tuple[InputFile, ...]
    usual_keep: tuple[str, ...] | None
    """The columns that the output keeps where nobody says."""

    def names(self) -> tuple[str, ...] | None: ...
    def rows(self) -> int | None: ...
    def arrow_type(self, column: str) -> Any: ...

    def pieces(self, columns: Sequence[str], first: int) -> Iterator[Piece]:
        """All rows from `first` on."""
