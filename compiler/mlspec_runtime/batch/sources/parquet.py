"""Parquet files, by pyarrow."""

from __future__ import annotations

import base64
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.pieces import Piece, Values, Wanted
from mlspec_runtime.batch.sources import PIECE_BYTES, PIECE_ROWS
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.signature import Array


class Parquet:
    """Reads one such file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _file(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path)
        except pa.ArrowException as problem:
            message = f"{self._path} is no Parquet file: {str(problem).splitlines()[0]}"
            raise BatchError("input", message, "name another file") from problem

    def names(self) -> tuple[str, ...]:
        return tuple(self._file.schema_arrow.names)

    def rows(self) -> int:
        return int(self._file.metadata.num_rows)

    def arrow_type(self, column: str) -> Any:
        return self._file.schema_arrow.field(column).type

    def pieces(self, columns: Sequence[str], skip: int, offset: int) -> Generator[Piece, None, int]:
        # A file of its own: what one has read through stays in memory.
        with pq.ParquetFile(self._path) as file:
            row = 0
            present = [name for name in columns if name in file.schema_arrow.names]
            for group in range(file.metadata.num_row_groups):
                about = file.metadata.row_group(group)
                if row + about.num_rows > skip:
                    yield from self._group(file, group, present, max(0, skip - row), offset + row)
                row += about.num_rows
        return row

    def _group(
        self, file: pq.ParquetFile, group: int, columns: list[str], skip: int, offset: int
    ) -> Generator[Piece, None, None]:
        about = file.metadata.row_group(group)
        size = max(1, min(PIECE_ROWS, PIECE_BYTES * about.num_rows // max(1, about.total_byte_size)))
        row = 0
        share = self._path.stat().st_size / max(1, self.rows())
        try:
            for batch in file.iter_batches(size, row_groups=[group], columns=columns):
                rows, begin = batch.num_rows, max(0, skip - row)
                row += rows
                if begin < rows:
                    yield ArrowRows(offset + row - rows + begin, batch.slice(begin), int((offset + row) * share))
        except (pa.ArrowException, OSError) as problem:
            told = str(problem).splitlines()[0]
            raise BatchError("input", f"{self._path}, near row {offset + row}: {told}") from problem


@dataclass(frozen=True)
class ArrowRows:
    """Rows as pyarrow has them."""

    first: int
    batch: pa.RecordBatch
    read_bytes: int

    @property
    def rows(self) -> int:
        return int(self.batch.num_rows)

    @property
    def faults(self) -> Mapping[int, ServiceError]:
        return {}

    def values(self, column: str, wanted: Wanted) -> Values:
        if column not in self.batch.schema.names:
            return [None] * self.rows
        found = self.batch.column(column)
        array = _stacked(found)
        cells: Values = found.to_pylist() if array is None else array
        return cells

    def record(self, row: int) -> Any:
        (record,) = self.batch.slice(row, 1).to_pylist()
        return {name: plain(value) for name, value in record.items()}

    def part(self, start: int, stop: int) -> ArrowRows:
        return ArrowRows(self.first + start, self.batch.slice(start, stop - start), self.read_bytes)


def _stacked(column: pa.Array) -> Array | None:
    """The column as one array of numbers; None if its rows differ in length, one has no value, or it has none."""
    shape: list[int] = [len(column)]
    if isinstance(column.type, pa.FixedShapeTensorType):
        shape += column.type.shape
        column = column.storage.flatten() if column.storage.null_count == 0 else column
    while (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        length = _length(column)
        if length is None:
            return None
        shape.append(length)
        column = column.flatten()
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    if column.null_count or not number:
        return None
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _length(column: pa.Array) -> int | None:
    """Of all its lists; None if they differ."""
    if column.null_count or not len(column):
        return None
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = np.diff(column.offsets.to_numpy(zero_copy_only=False))
    return int(lengths[0]) if (lengths == lengths[0]).all() else None


def plain(value: Any) -> Any:
    """A value of pyarrow's as JSON has it."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode() if len(value) <= 1024 else f"{len(value)} bytes"
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
