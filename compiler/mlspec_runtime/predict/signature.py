"""What a model of tensors takes and gives, as the plan says (`mlspec.model.signature` is its writer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Dtype = Literal[
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
    "string",
]


class BadTensorError(ValueError):
    """A value that isn't the declared tensor; the message says how it differs, `path` where in it, as far as known."""

    def __init__(self, message: str, path: tuple[int | str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class ImageFile:
    """An input that may come as a file: its numbers, 0 to 255, are divided by `divide_by`. The files of a request have
    `max_pixels` together, at most.
    """

    mode: Literal["rgb", "gray"] = "rgb"
    layout: Literal["channels_first", "channels_last", "none"] = "channels_last"
    divide_by: float = 1.0
    max_pixels: int = 16_777_216


@dataclass(frozen=True)
class TensorSpec:
    """A declared tensor. A dimension is a number or a name; equal names stand for equal numbers in one request.

    Of dtype `string`, arrays hold `str` objects (numpy's dtype `object`).
    """

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]
    minimum: float | None = None
    maximum: float | None = None
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    image: ImageFile | None = None

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(object if self.dtype == "string" else self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"
