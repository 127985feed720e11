"""Rows for a model of tensors: many in one request, where its arrays begin with the batch's dimension."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.batch.asking import ask
from mlspec_runtime.batch.columns import Column
from mlspec_runtime.batch.computers import Answers, together
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.pieces import Piece, Values, Wanted
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.messages import TensorResponse
from mlspec_runtime.predict.signature import TensorSpec
from mlspec_runtime.protocol import Runner

ENOUGH_BYTES = 64 << 10
MOST_ROWS = 1024
_USUAL_BYTES = 512
"""Of a text, or along a dimension that has a name only."""
REQUESTS_AT_ONCE = 3
"""One is computed, the next is ready, and one is on its way."""


def stacks(specs: Sequence[TensorSpec]) -> bool:
    """Whether rows can be laid together: all arrays begin with the same named dimension."""
    return len({spec.shape[0] if spec.shape else 0 for spec in specs}) == 1 and all(
        isinstance(spec.shape[0], str) for spec in specs
    )


def rows_together(inputs: Sequence[TensorSpec], planned: int) -> int:
    """As many as make a call worth while, small ones many and large ones few; those that the plan says at least."""
    row_bytes = sum(_row_bytes(spec) for spec in inputs)
    return max(planned, min(MOST_ROWS, ENOUGH_BYTES // max(1, row_bytes)), 1)


def _row_bytes(spec: TensorSpec) -> int:
    known = [size for size in spec.shape[1:] if isinstance(size, int)]
    unknown = len(spec.shape[1:]) - len(known)
    item_bytes = _USUAL_BYTES if spec.dtype == "string" else spec.numpy_dtype.itemsize
    items: int = math.prod(known) * _USUAL_BYTES**unknown
    return items * item_bytes


@dataclass(frozen=True)
class BoundInput:
    """An input and the columns that it is made of; several are laid beside each other."""

    spec: TensorSpec
    columns: tuple[str, ...]
    stacked: bool

    def value(self, piece: Piece) -> Any:
        """The request's value for all rows of a piece. Raises ServiceError (422): a row has none."""
        wanted = Wanted(self.spec.numpy_dtype.kind, len(self._row_shape) > (len(self.columns) > 1))
        cells = [self._cells(piece, column, wanted) for column in self.columns]
        if len(cells) > 1:
            whole: Any = _beside(cells)
        else:
            whole = cells[0]
        return whole if self.stacked else whole[0]

    @property
    def _row_shape(self) -> tuple[int | str, ...]:
        return self.spec.shape[1:] if self.stacked else self.spec.shape

    def _cells(self, piece: Piece, column: str, wanted: Wanted) -> Values:
        # A file of an image is text in CSV and JSON, not a list.
        image = self.spec.image is not None
        cells = piece.values(column, Wanted() if image else wanted)
        if isinstance(cells, np.ndarray):
            return cells
        if any(cell is None for cell in cells):
            field = f"inputs.{self.spec.name}"
            raise ServiceError("invalid_request", f"{field}: the row has no value in '{column}'", 422, field=field)
        return [_image(cell) for cell in cells] if image else cells


def _beside(cells: Sequence[Values]) -> Any:
    if all(isinstance(column, np.ndarray) and column.ndim == 1 for column in cells):
        return np.stack([np.asarray(column) for column in cells], axis=1)
    return [[_python(value) for value in row] for row in zip(*cells, strict=True)]


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _image(cell: Any) -> Any:
    """A file of an image as requests have it: bytes, base64, or bytes beside their path, as data sets have them."""
    if isinstance(cell, Mapping) and isinstance(cell.get("bytes"), bytes):
        cell = cell["bytes"]
    if isinstance(cell, bytes):
        cell = base64.b64encode(cell).decode()
    return {"image": cell} if isinstance(cell, str) else cell


def bind(
    specs: Sequence[TensorSpec], names: Sequence[str] | None, given: Mapping[str, str], *, stacked: bool
) -> tuple[BoundInput, ...]:
    """Which columns each input takes. `names` are those of the input, None where nothing tells; `given` what the user
    says. Raises BatchError: there is none for an input.
    """
    known = {spec.name: spec for spec in specs} | {column: spec for spec in specs for column in spec.columns}
    if unknown := [name for name in given if name not in known]:
        message = f"--column {unknown[0]}=…: the model has no input '{unknown[0]}'"
        raise BatchError("columns", message, f"it has {', '.join(map(_told, specs))}")
    return tuple(BoundInput(spec, _columns(spec, names, given, alone=len(specs) == 1), stacked) for spec in specs)


def _columns(
    spec: TensorSpec, names: Sequence[str] | None, given: Mapping[str, str], *, alone: bool
) -> tuple[str, ...]:
    own = tuple(given.get(column, column) for column in spec.columns)
    usual = "image" if spec.image else "text" if spec.dtype == "string" else ""
    if spec.name in given:
        wanted = _several(given[spec.name], names)
    elif own and (spec.name not in (names or own)):
        wanted = own
    elif alone and names is not None and spec.name not in names and usual in names:
        wanted = (usual,)
    else:
        wanted = (spec.name,)
    missing = [name for name in wanted if names is not None and name not in names]
    if missing:
        have = ", ".join(names or ())
        message = f"the model's input {_told(spec)} has no column '{missing[0]}' here; the input has {have}"
        raise BatchError("columns", message, f"say which it takes: --column {spec.name}=COLUMN[,COLUMN…]")
    return wanted


def _several(text: str, names: Sequence[str] | None) -> tuple[str, ...]:
    """Columns separated by commas; a column's name may have some itself."""
    return (text,) if names is not None and text in names else tuple(text.split(","))


def _told(spec: TensorSpec) -> str:
    return f"{spec.name} ({spec})"


class TensorRows:
    """Asks a runner of tensors."""

    requests_at_once = REQUESTS_AT_ONCE

    def __init__(
        self, runner: Runner, inputs: Sequence[BoundInput], outputs: Sequence[TensorSpec], rows_at_once: int
    ) -> None:
        self._runner = runner
        self._inputs = inputs
        self._outputs = outputs
        self._stacked = all(bound.stacked for bound in inputs)
        self.rows_at_once = rows_at_once if self._stacked else 1

    @property
    def columns(self) -> tuple[Column, ...]:
        found = []
        for spec in self._outputs:
            found.append(_column(spec, len(spec.shape) - self._stacked))
            if spec.labels:
                found.append(Column(f"{spec.name}_label", "text", depth=_label_depth(spec, self._stacked)))
        return tuple(found)

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(column for bound in self._inputs for column in bound.columns)

    async def compute(self, piece: Piece) -> Answers:
        """All rows in one request; where that fails, its halves, until those rows are alone that can't be answered."""
        try:
            return await self._asked(piece)
        except ServiceError as error:
            if piece.rows == 1:
                return Answers((), {column.name: [] for column in self.columns}, {0: error})
        middle = piece.rows // 2
        first = await self.compute(piece.part(0, middle))
        return together(first, await self.compute(piece.part(middle, piece.rows)), middle)

    async def _asked(self, piece: Piece) -> Answers:
        body = {"inputs": {bound.spec.name: bound.value(piece) for bound in self._inputs}}
        answer = await ask(self._runner, body, f"row-{piece.first}")
        assert isinstance(answer, TensorResponse)  # noqa: S101 - it is a runner of tensors
        table = self._table(answer)
        return Answers(range(piece.rows), table, {})

    def _table(self, answer: TensorResponse) -> dict[str, Sequence[Any]]:
        table: dict[str, Sequence[Any]] = {}
        labels: Mapping[str, Any] = getattr(answer, "labels", None) or {}
        for spec in self._outputs:
            table[spec.name] = _rows(answer.outputs[spec.name], self._stacked)
            if spec.labels:
                table[f"{spec.name}_label"] = _rows(labels.get(spec.name), self._stacked)
        return table


def _rows(value: Any, stacked: bool) -> Sequence[Any]:
    return value if stacked else [value]


def _column(spec: TensorSpec, depth: int) -> Column:
    kinds: Any = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "O": "text"}
    return Column(spec.name, kinds[spec.numpy_dtype.kind], depth, "" if spec.dtype == "string" else spec.dtype)


def _label_depth(spec: TensorSpec, stacked: bool) -> int:
    depth = len(spec.shape) - stacked
    return max(0, depth - 1) if spec.numpy_dtype.kind == "f" else depth
