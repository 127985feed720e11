"""Small models in ONNX, written byte by byte: what a build reads of them needs no library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FLOAT, INT64, STRING = 1, 7, 8
Shape = Sequence[int | str | None] | None


def number(field: int, value: int) -> bytes:
    """A field of a whole number."""
    return _varint(field << 3) + _varint(value)


def part(field: int, content: bytes | str) -> bytes:
    """A field of a text, of bytes or of a message."""
    data = content.encode() if isinstance(content, str) else content
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found, value = b"", value & (1 << 64) - 1
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def value(name: str, dtype: int, shape: Shape) -> bytes:
    """A `ValueInfoProto`; a shape of None isn't told."""
    dims = b"".join(part(1, _dimension(size)) for size in shape or ())
    told = b"" if shape is None else part(2, dims)
    return part(1, name) + part(2, part(1, number(1, dtype) + told))


def _dimension(size: int | str | None) -> bytes:
    if size is None:
        return b""
    return number(1, size) if isinstance(size, int) else part(2, size)


def sequence(name: str) -> bytes:
    """A `ValueInfoProto` of a sequence of maps, as skl2onnx gives probabilities."""
    return part(1, name) + part(2, part(4, part(1, part(5, number(1, INT64)))))


def weight(name: str, dims: Sequence[int], *, location: str | None = None, offset: int = 0) -> bytes:
    """A `TensorProto` of floats, in the file or in one of its own."""
    count = 4
    for dim in dims:
        count *= dim
    head = b"".join(number(1, dim) for dim in dims) + number(2, FLOAT) + part(8, name)
    if location is None:
        return head + part(9, bytes(count))
    entries = {"location": location, "offset": str(offset), "length": str(count)}
    return head + b"".join(part(13, part(1, key) + part(2, text)) for key, text in entries.items()) + number(14, 1)


def relu(
    source: str = "x", target: str = "y", *, domain: str = "", attributes: bytes = b"", operator: str = "Relu"
) -> bytes:
    """A `NodeProto`."""
    return part(1, source) + part(2, target) + part(4, operator) + attributes + (part(7, domain) if domain else b"")


def model(
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    *,
    nodes: Sequence[bytes] = (relu(),),
    weights: Sequence[bytes] = (),
    ir_version: int = 10,
    opset: int = 20,
) -> bytes:
    """A whole file."""
    graph = b"".join(
        part(field, one)
        for field, many in ((1, nodes), (2, ["g"]), (5, weights), (11, inputs), (12, outputs))
        for one in many
    )
    return number(1, ir_version) + part(7, graph) + part(8, number(2, opset))


def simple(path: Path, **changes: int) -> Path:
    """float32[batch, 4] to float32[batch, 4], written to the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model([value("x", FLOAT, ["batch", 4])], [value("y", FLOAT, ["batch", 4])], **changes))  # type: ignore[arg-type]
    return path
