"""Requests to show: they work when one tries them out. Values lie in the declared range, images are real files."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlspec_runtime.predict.signature import Array, ImageFile, TensorSpec
from mlspec_runtime.predict.values import npy_bytes

MOST_NUMBERS = 1000
"""In lists; more are shown as an .npy file, which is shorter."""
_SIDE = 32
"""Of an image that may have any size."""


def examples(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Bodies of requests by name: of the numbers alone, and of what else an input takes."""
    found = {"numbers": {"inputs": {spec.name: _numbers_shown(spec) for spec in specs}}}
    if any(spec.image for spec in specs):
        images = {"images": {"inputs": {spec.name: example_value(spec) for spec in specs}}}
        return {**images, **found}
    if any(spec.columns for spec in specs):
        rows = {spec.name: _records(spec) if spec.columns else example_value(spec) for spec in specs}
        return {**found, "records": {"inputs": rows}}
    return found


def example_value(spec: TensorSpec) -> Any:
    """One value: an image where one is taken, else numbers or texts."""
    if spec.image is None:
        return _numbers_shown(spec)
    image = {"image": _base64(png(*_image_size(spec, spec.image), _grey(spec, spec.image), spec.image.mode))}
    rows = _rows(spec)
    return image if rows == 1 else [image] * rows


def file_examples(specs: Sequence[TensorSpec], media_types: Sequence[str]) -> dict[str, Any]:
    """Of each media type OpenAPI's description of such a body."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    text = {"schema": {"type": "string"}}
    shown = {"text/csv": {**text, "example": _csv(specs[0])}} if "text/csv" in media_types else {}
    return {media_type: shown.get(media_type, binary) for media_type in media_types}


def _numbers_shown(spec: TensorSpec) -> Any:
    array = _array(spec)
    if array.size <= MOST_NUMBERS or spec.dtype == "string":
        return array.tolist()
    return {"npy": _base64(npy_bytes(array))}


def _array(spec: TensorSpec) -> Array:
    return np.full(_shape(spec), _number(spec), dtype=spec.numpy_dtype)


def _shape(spec: TensorSpec) -> list[int]:
    """One row, and of whatever else has a name the least; of images a size that a model may be able to take."""
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    if spec.image is not None:
        for at in _sides(spec, spec.image):
            shape[at] = shape[at] if isinstance(spec.shape[at], int) else _SIDE
    return shape


def _sides(spec: TensorSpec, image: ImageFile) -> tuple[int, int]:
    """Where height and width are in the shape."""
    last = len(spec.shape) - (2 if image.layout == "channels_last" else 1)
    return last - 1, last


def _image_size(spec: TensorSpec, image: ImageFile) -> tuple[int, int]:
    """Width and height."""
    height, width = _sides(spec, image)
    shape = _shape(spec)
    return shape[width], shape[height]


def _rows(spec: TensorSpec) -> int:
    """How many images the shape wants: one, unless it says so."""
    has_rows = spec.image is not None and len(spec.shape) > (2 if spec.image.layout == "none" else 3)
    return _shape(spec)[0] if has_rows else 1


def _number(spec: TensorSpec) -> Any:
    """0, or what is nearest to it in the range."""
    if spec.dtype == "string":
        return "text"
    least, most = spec.minimum, spec.maximum
    number = 0.0 if least is None else max(0.0, least)
    number = number if most is None else min(number, most)
    if spec.numpy_dtype.kind == "f":
        return number
    return math.ceil(number) if least is not None and number == least else math.floor(number)


def _grey(spec: TensorSpec, image: ImageFile) -> int:
    """The shade whose number, divided, is in the range."""
    return min(255, max(0, math.ceil(float(_number(spec)) * image.divide_by)))


def _records(spec: TensorSpec) -> list[dict[str, Any]]:
    rows = _array(spec).reshape(-1, len(spec.columns)).tolist()
    return [dict(zip(spec.columns, row, strict=True)) for row in rows]


def _csv(spec: TensorSpec) -> str:
    rows = [",".join(map(str, record.values())) for record in _records(spec)]
    return "\n".join([",".join(map(_quoted, spec.columns)), *rows, ""])


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""')) if set(name) & set(',"\r\n') else name


def png(width: int, height: int, shade: int, mode: str = "gray") -> bytes:
    """A PNG file of one shade, 8 bits a channel; without Pillow, which a service may not have."""
    colour, channels = (2, 3) if mode == "rgb" else (0, 1)
    rows = (b"\0" + bytes([shade]) * (width * channels)) * height
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
