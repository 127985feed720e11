"""What a model of tensors takes and gives, as a spec declares it."""

from __future__ import annotations

from typing import Literal

from mlspec.model.frozen import Frozen

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


class Image(Frozen):
    """An input that may come as a file. Its numbers, 0 to 255, are divided by `divide_by`; the files of a
    request have `max_pixels` together, at most.
    """

    mode: Literal["rgb", "gray"] = "rgb"
    layout: Literal["channels_first", "channels_last", "none"] = "channels_last"
    divide_by: float = 1.0
    max_pixels: int = 16_777_216


class Tensor(Frozen):
    """One input or output. A dimension is its size, or a name that stands for any size: equal names, equal sizes.

    The first dimension, where it has a name, is the batch's: rows of several requests are computed together along it.
    """

    name: str
    dtype: Dtype = "float32"
    shape: tuple[int | str, ...]
    minimum: float | None = None
    maximum: float | None = None
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    image: Image | None = None

    def settings(self) -> dict[str, object]:
        """As the bundle's runtime reads it (`mlspec_runtime.predict.signature`), without what is unset."""
        given = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        more: dict[str, object] = {"minimum": self.minimum, "maximum": self.maximum, "labels": list(self.labels)}
        more |= {"columns": list(self.columns), "image": None if self.image is None else dict(self.image)}
        return {**given, **{key: value for key, value in more.items() if value not in (None, [])}}

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class Batching(Frozen):
    """`max_rows` None: as `auto` decides."""

    max_rows: int | None = None
    max_wait_ms: float = 0
