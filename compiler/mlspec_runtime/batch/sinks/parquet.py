"""Parquet, by pyarrow. Row groups are of a useful size, whatever that of the parts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlspec_runtime.batch.columns import Column, Table, as_text

GROUP_ROWS = 65_536
GROUP_BYTES = 32 << 20
_TYPES = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
_DTYPES = {"float16": pa.float16(), "float32": pa.float32(), "float64": pa.float64(), "bool": pa.bool_()}


class ParquetSink:
    """Writes and joins parts of these columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._schema = pa.schema([pa.field(column.name, _type(column)) for column in columns])

    def open(self, path: Path) -> _Grouped:
        return _Grouped(path, self._schema, self._columns)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        whole = _Grouped(path, self._schema, self._columns)
        for part in parts:
            for batch in _batches(part):
                whole.add(batch)
        whole.close()


class _Grouped:
    """A file that is being written."""

    def __init__(self, path: Path, schema: pa.Schema, columns: Sequence[Column]) -> None:
        self._path = path
        self._columns = columns
        self._writer = pq.ParquetWriter(path, schema)
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, table: Table) -> None:
        arrays = [
            _array(column, table[column.name], field.type)
            for column, field in zip(self._columns, self._schema, strict=True)
        ]
        self.add(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def add(self, batch: pa.RecordBatch) -> None:
        """Rows of the same schema."""
        self._pending.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def abandon(self) -> None:
        self._pending = []
        with suppress(OSError):
            self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_batches(self._pending, self._schema))
            self._pending, self._rows, self._bytes = [], 0, 0


def _batches(part: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(part) as file:
        yield from file.iter_batches()


def _type(column: Column) -> pa.DataType:
    if column.kind == "kept" and column.arrow is not None:
        return column.arrow
    type = _DTYPES.get(column.dtype) or _number(column.dtype) or _TYPES.get(column.kind, pa.string())
    for _ in range(column.depth):
        type = pa.list_(type)
    return type


def _number(dtype: str) -> pa.DataType | None:
    return pa.type_for_alias(dtype) if dtype.startswith(("int", "uint")) else None


def _array(column: Column, values: Sequence[Any], type: pa.DataType) -> pa.Array:
    if pa.types.is_string(type):
        values = [as_text(value) for value in values]
    return pa.array(values, type=type)
