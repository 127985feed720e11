"""Parquet tables as arrays, by pyarrow where it is installed; in a process of its own, as broken files can end it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.checking import takes
from mlspec_runtime.predict.decoding.encoded import from_base64, only_key
from mlspec_runtime.predict.decoding.parquet_reader import READER
from mlspec_runtime.predict.decoding.tables import of_rows
from mlspec_runtime.predict.signature import Array, BadTensorError, TensorSpec

MEDIA_TYPE = "application/vnd.apache.parquet"


def encoded(value: Mapping[str, Any], spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """`{"parquet": base64}`."""
    content = from_base64(only_key(value, "parquet"), "parquet")
    try:
        return file(content, spec, sizes)
    except BadTensorError as fault:
        raise BadTensorError(str(fault), ("parquet", *fault.path)) from None


def file(content: bytes, spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """A body that is a Parquet file of flat columns. Raises BadTensorError, and ServiceError (415) without pyarrow."""
    if find_spec("pyarrow") is None:
        message = "Parquet needs pyarrow, which isn't installed here: send CSV or JSON, or install it with the service"
        raise ServiceError("unsupported_media_type", message, 415)
    columns = READER.columns(content, spec.columns, texts=spec.dtype == "string")
    for name, column in zip(spec.columns, columns, strict=True):
        if column.size and not takes(column.dtype, spec):
            raise BadTensorError(f"wants {spec}, has values of another type", (name,))
    if len(spec.shape) == 1:
        return of_rows(list(zip(*(column.tolist() for column in columns), strict=True)), spec)
    return np.stack(columns, axis=1)
