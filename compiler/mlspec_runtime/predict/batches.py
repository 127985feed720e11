"""Which requests are computed together, and how their rows are laid together and apart again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mlspec_runtime.predict.job import Job, StackKey
from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec


def stackable(tensors: Sequence[TensorSpec]) -> bool:
    """Whether all begin with the same named dimension, the batch's."""
    firsts = {tensor.shape[0] if tensor.shape else 0 for tensor in tensors}
    return len(firsts) == 1 and isinstance(next(iter(firsts)), str)


def stack_key(inputs: Mapping[str, Array]) -> StackKey:
    """What must be equal for rows to be stacked."""
    return tuple((array.dtype.str, array.shape[1:]) for array in inputs.values())


def choose(waiting: Sequence[Job], max_rows: int, max_requests: int) -> list[Job]:
    """Of those who wait, the longest first, the first one and who can be computed with it. A request of more rows than
    `max_rows` is alone.
    """
    first = waiting[0]
    chosen, rows = [first], first.rows
    if first.key is None:
        return chosen
    for job in waiting[1:]:
        if rows >= max_rows or len(chosen) >= max_requests:
            break
        if job.key == first.key and rows + job.rows <= max_rows:
            chosen.append(job)
            rows += job.rows
    return chosen


def stack(requests: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """The rows of all requests below each other."""
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]}


def pieces(inputs: Mapping[str, Array], max_rows: int) -> Iterator[Mapping[str, Array]]:
    """The rows in pieces of `max_rows` at most."""
    rows = len(next(iter(inputs.values())))
    for at in range(0, rows, max_rows):
        yield {name: array[at : at + max_rows] for name, array in inputs.items()}


def joined(outputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The outputs of pieces below each other."""
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def split(predicted: Any, rows: Sequence[int]) -> list[dict[str, Any]]:
    """The outputs of each request, of which there are so many rows each. Raises BadTensorError if they don't fit."""
    if not isinstance(predicted, Mapping):
        raise BadTensorError("predict must give a dict")
    arrays = {name: np.asarray(array) for name, array in predicted.items()}
    total = sum(rows)
    if any(array.ndim == 0 or array.shape[0] != total for array in arrays.values()):
        raise BadTensorError(f"predict must give {total} rows for {total} rows")
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - count : end] for name, array in arrays.items()}
        for end, count in zip(ends, rows, strict=True)
    ]
