"""The columns of the output: their types are known before the first row is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlspec_runtime.batch.faults import BatchError

Kind = Literal["text", "integer", "number", "boolean", "json", "kept"]
ROW = "row"
"""The column with the row's number."""


@dataclass(frozen=True)
class Column:
    """`kind` is of a single value, or of those in lists of this `depth`; `dtype` numpy's, where it is a tensor's.
    `arrow` is the type that a kept column has in the input, if it has one.
    """

    name: str
    kind: Kind
    depth: int = 0
    dtype: str = ""
    arrow: Any = None


NUMBER = Column(ROW, "integer", dtype="int64")
"""The rows' numbers, where nothing is kept of the input."""

Table = Mapping[str, Sequence[Any]]
"""Values by column, all of the same length."""


def output_columns(kept: Sequence[Column], answer: Sequence[Column]) -> tuple[Column, ...]:
    """All of the output's, in order. Raises BatchError: two have one name."""
    columns = (*(kept or (NUMBER,)), *answer)
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            message = f"the output would have two columns '{name}'"
            help = "leave it out of --keep" if kept else "keep a column of the input in place of the row: --keep COLUMN"
            raise BatchError("columns", message, help)
    return columns


def as_json(value: Any) -> Any:
    """A value as JSON can have it: no NaN, nothing that only Python knows."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, str | int) else str(value)


def as_text(value: Any) -> str | None:
    """A value as text: texts as they are, all else as JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(as_json(value), ensure_ascii=False, separators=(",", ":"))
    # Half a pair is no text in UTF-8.
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
