"""What a part and the output are written as."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mlspec_runtime.batch.columns import Column, Table
from mlspec_runtime.batch.job import Format


class Writer(Protocol):
    """One file that is being written."""

    def write(self, table: Table) -> None:
        """Add rows."""

    def close(self) -> None:
        """All is on the disk when it returns."""

    def abandon(self) -> None:
        """Let go of the file, which nobody wants any more."""


class Sink(Protocol):
    """One format."""

    def open(self, path: Path) -> Writer:
        """Begin a part."""

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Write all rows of the parts to one file."""


def sink(format: Format, columns: Sequence[Column]) -> Sink:
    """Raises BatchError: what it needs is not installed."""
    if format == "parquet":
        from mlspec_runtime.batch.sources.opening import no_pyarrow

        try:
            from mlspec_runtime.batch.sinks.parquet import ParquetSink
        except ImportError as problem:
            raise no_pyarrow() from problem
        return ParquetSink(columns)
    from mlspec_runtime.batch.sinks.lines import CommaSeparatedSink, JsonLinesSink

    return JsonLinesSink(columns) if format == "jsonl" else CommaSeparatedSink(columns)
