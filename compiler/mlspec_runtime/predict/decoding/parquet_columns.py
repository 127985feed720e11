"""The flat columns of a Parquet file, by pyarrow: how large they are is known before a page is unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.predict.decoding.parquet_pages import Budget, count_pages
from mlspec_runtime.predict.decoding.parquet_reader import BROKEN
from mlspec_runtime.predict.decoding.tables import column_order
from mlspec_runtime.predict.signature import Array, BadTensorError

MOST_BYTES = 64 << 20
"""Of the unpacked pages of a table."""
MOST_VALUES = 4 << 20
"""Of a table, in all of its columns."""
MOST_FOOTER_BYTES = 1 << 18
_MOST_ENTRIES = 10_000
"""Of any list in a footer: of columns, row groups, keys."""
_NUMBERS = frozenset(("BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE"))
_TEXTS = frozenset(("BYTE_ARRAY",))
_MAGIC = b"PAR1"
_OTHER = "has values of another type"


@dataclass(frozen=True)
class Column:
    """Numbers; of texts those that there are, and of each row the place of its own among them."""

    numbers: Array
    texts: list[str] | None = None


def columns(content: bytes, names: Sequence[str], *, texts: bool) -> list[Column]:
    """The columns of these names, which are all that the file has. Raises BadTensorError."""
    _check_footer(content)
    try:
        table = _read(content, names, texts)
        return [_text_column(table, name) if texts else _number_column(table, name) for name in names]
    except BadTensorError:
        raise
    # pyarrow raises nearly anything for files that are broken, MemoryError too.
    except Exception:  # noqa: BLE001
        raise BadTensorError(BROKEN) from None


def _check_footer(content: bytes) -> None:
    """The file's last bytes are the footer's length and the magic word; whatever is listed in the footer takes memory
    as it is read.
    """
    if not content.startswith(_MAGIC) or not content.endswith(_MAGIC) or len(content) < 12:
        raise BadTensorError("is no Parquet file, or is cut")
    if int.from_bytes(content[-8:-4], "little") > min(MOST_FOOTER_BYTES, len(content) - 12):
        raise BadTensorError(f"is a Parquet file whose footer is cut, or of more than {MOST_FOOTER_BYTES} bytes")


def _read(content: bytes, names: Sequence[str], texts: bool) -> Any:
    from pyarrow import BufferReader
    from pyarrow.parquet import ParquetFile

    opened = ParquetFile(
        BufferReader(content),
        thrift_string_size_limit=MOST_FOOTER_BYTES,
        thrift_container_size_limit=_MOST_ENTRIES,
        # Dictionaries stay what they are: a long text that a million rows have is there once.
        read_dictionary=list(names) if texts else None,
    )
    _check_columns(opened.metadata, names, _TEXTS if texts else _NUMBERS)
    _check_sizes(opened.metadata, content)
    return opened.read(columns=list(names), use_threads=False)


def _check_columns(metadata: Any, names: Sequence[str], kinds: frozenset[str]) -> None:
    found = [metadata.schema.column(at) for at in range(metadata.num_columns)]
    for column in found:
        name = column.path.split(".")[0]
        if column.max_repetition_level and name in names:
            raise BadTensorError("holds lists: wants one value a row", (name,))
    column_order([column.path for column in found], names)
    for column in found:
        if column.max_repetition_level or column.max_definition_level > 1 or column.physical_type not in kinds:
            raise BadTensorError(_OTHER, (column.path,))


def _check_sizes(metadata: Any, content: bytes) -> None:
    """Before a page is unpacked: rows and values as the footer says, and sizes as each page says."""
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    budget = Budget(MOST_BYTES, MOST_VALUES)
    if metadata.num_rows != sum(group.num_rows for group in groups):
        raise BadTensorError(BROKEN)
    for group in groups:
        for at in range(group.num_columns):
            chunk = group.column(at)
            if chunk.num_values != group.num_rows:
                raise BadTensorError(BROKEN)
            budget.values(chunk.num_values)
            count_pages(content, _begin(chunk), chunk.total_compressed_size, chunk.num_values, budget)


def _begin(chunk: Any) -> int:
    """Where pyarrow begins to read a column, too (parquet/file_reader.cc, ComputeColumnChunkRange)."""
    first = chunk.dictionary_page_offset
    has_dictionary = chunk.has_dictionary_page and first is not None and 0 < first < chunk.data_page_offset
    return int(first if has_dictionary else chunk.data_page_offset)


def _values(table: Any, name: str) -> Any:
    column = table.column(name)
    if column.null_count:
        raise BadTensorError("has rows without a value", (name,))
    return column


def _number_column(table: Any, name: str) -> Column:
    numbers = _values(table, name).to_numpy()
    if numbers.dtype.kind not in "biuf":
        raise BadTensorError(_OTHER, (name,))
    return Column(numbers)


def _text_column(table: Any, name: str) -> Column:
    places: dict[str, int] = {}
    numbers: list[int] = []
    for chunk in _values(table, name).chunks:
        known = chunk.dictionary.to_pylist()
        if not all(isinstance(text, str) for text in known):
            raise BadTensorError(_OTHER, (name,))
        own = [places.setdefault(text, len(places)) for text in known]
        numbers += [own[at] for at in chunk.indices.to_pylist()]
    return Column(np.array(numbers, dtype=np.int64), list(places))
