"""Malformed requests without end: of each way in which one can be wrong, another one each time."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlspec_runtime.predict.examples import png

INPUTS: dict[str, dict[str, Any]] = {
    "x": {"name": "x", "dtype": "float32", "shape": ["batch", 4], "minimum": -1000, "maximum": 1000},
    "ids": {"name": "ids", "dtype": "uint8", "shape": ["batch"]},
    "text": {"name": "text", "dtype": "string", "shape": ["batch"]},
    "table": {"name": "table", "dtype": "float64", "shape": ["batch", 2], "columns": ["a", "b"]},
    "image": {
        "name": "image",
        "dtype": "float32",
        "shape": ["batch", 1, 8, 8],
        "image": {"mode": "gray", "layout": "channels_first", "divide_by": 255, "max_pixels": 4096},
    },
}


@dataclass(frozen=True)
class Bad:
    """A body that must be refused."""

    what: str
    content: bytes
    media_type: str = "application/json"


def good(names: Sequence[str], rows: int = 1) -> dict[str, Any]:
    """A request that is right, for these inputs."""
    values: dict[str, Any] = {
        "x": [[0.5, 1, 2, 3]] * rows,
        "ids": [7] * rows,
        "text": ["a"] * rows,
        "table": [[1, 2]] * rows,
        "image": [{"image": _base64(png(8, 8, 9))}] * rows,
    }
    return {"inputs": {name: values[name] for name in names}}


def malformed(names: Sequence[str], count: int, seed: int = 1) -> Iterator[Bad]:
    """`count` of them for a service with these inputs, of which one is wrong in each."""
    chance = random.Random(seed)
    makers = [(name, maker) for name in names for maker in MAKERS[name]]
    for number in range(count):
        if number % 10 == 9:
            yield _broken_body(chance, names)
            continue
        name, maker = makers[number % len(makers)]
        body = good(names, chance.choice((1, 2, 3)))
        body["inputs"][name] = maker(chance)
        yield Bad(f"{name}: {maker.__name__} {number}", json.dumps(body).encode())


def _broken_body(chance: random.Random, names: Sequence[str]) -> Bad:
    whole = json.dumps(good(names)).encode()
    at = chance.randrange(1, len(whole) - 1)
    kinds: list[Bad] = [
        Bad("cut", whole[:at]),
        Bad("nested", b'{"inputs": ' + b"[" * 30000),
        Bad("no encoding", whole[:-1] + b', "encoding": "pickle"}'),
        Bad("missing", b'{"inputs": {}}'),
        Bad("a file", _npy(np.zeros((1, 4))), "application/x-npy"),
        Bad("pickled", b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00N.", "application/octet-stream"),
        Bad("digits", b'{"inputs": {"x": ' + b"9" * 5000 + b"}}"),
        Bad("noise", chance.randbytes(200)),
    ]
    return chance.choice(kinds)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _npy(array: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **more)
    return file.getvalue()


def wrong_shape(chance: random.Random) -> Any:
    return np.zeros([chance.randrange(1, 5) for _ in range(chance.choice((3, 5, 6)))]).tolist()


def ragged(chance: random.Random) -> Any:
    return [[1.0] * chance.randrange(5, 9), [1.0]]


def wrong_kind(chance: random.Random) -> Any:
    return chance.choice([None, True, {"a": 1}, [[None]], [{"b": []}], [["1", True, None, 1]], [[[]]], {}])


def not_a_number(chance: random.Random) -> Any:
    return [[1.0, 2.0, 3.0, chance.choice([float("nan"), float("inf"), 1e300, 10**400, 1001])]]


def deep(chance: random.Random) -> Any:
    value: Any = 1
    for _ in range(chance.randrange(20, 150)):
        value = [value]
    return value


def padded(chance: random.Random) -> Any:
    return ["a" * chance.randrange(1000, 50000), *[1] * 1000]


def cut_base64(chance: random.Random) -> Any:
    return {"npy": _base64(_npy(np.zeros((1, 4), np.float32)))[: chance.randrange(1, 48) * 4 + 1]}


def cut_npy(chance: random.Random) -> Any:
    return {"npy": _base64(_npy(np.zeros((1, 4), np.float32))[: chance.randrange(0, 143)])}


def huge_npy(chance: random.Random) -> Any:
    shape = (chance.randrange(10**6, 10**15), 4)
    header = f"{{'descr': '{chance.choice(['<f4', '<U0', '|V0', '<f8'])}', 'fortran_order': False, 'shape': {shape}, }}"
    return {"npy": _base64(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())}


def pickled_npy(chance: random.Random) -> Any:
    return {"npy": _base64(_npy(np.array([[print, chance.random()]], dtype=object), allow_pickle=True))}


def huge_raw(chance: random.Random) -> Any:
    return {"base64": "AAAA", "dtype": "float32", "shape": [chance.randrange(2, 10**12), 4]}


def zip_bomb(chance: random.Random) -> Any:
    return {"npy": _base64(b"PK\x03\x04" + zlib.compress(bytes(chance.randrange(10**5, 10**6))))}


def surrogates(chance: random.Random) -> Any:
    return ["a" * chance.randrange(5) + "\ud800"]


def bad_csv(chance: random.Random) -> Any:
    return {
        "csv": chance.choice(["", "a\n", "a,b\n1\n", "a,b\n1,x", 'a,b\n"1', "a,b,c\n1,2,3", "a,a\n1,2", "b,a\n1_0,2"])
    }


def bad_records(chance: random.Random) -> Any:
    return chance.choice([[{"a": 1}], [{"a": 1, "b": "2"}], [{"a": 1, "b": 2, "c": 3}], [{"a": 1, "b": 2}, None]])


def broken_parquet(chance: random.Random) -> Any:
    return {"parquet": _base64(b"PAR1" + chance.randbytes(chance.randrange(0, 300)) + b"PAR1")}


def lying_image(chance: random.Random) -> Any:
    width, height = chance.choice([(60000, 60000), (64, 64), (8, 8), (4, 4), (0, 8), (2**31 - 1, 1)])
    return {"image": _base64(with_size(png(8, 8 if (width, height) != (8, 8) else 9, 7), width, height))}


def cut_image(chance: random.Random) -> Any:
    whole = png(8, 8, 9)
    return [{"image": _base64(whole[: chance.randrange(len(whole) - 1)])}]


def image_bomb(chance: random.Random) -> Any:
    """Eight megabytes of data for 64 pixels."""
    return {"image": _base64(png(8, 1_000_000, chance.randrange(256))[:24] + png(8, 1_000_000, 0)[24:])}


def broken_image(chance: random.Random) -> Any:
    whole = bytearray(png(8, 8, 9))
    whole[chance.randrange(41, 51)] ^= 1 << chance.randrange(8)
    return {"image": _base64(bytes(whole))}


def noisy_image(chance: random.Random) -> Any:
    begin = chance.choice(
        [b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBPVP8 ", b"RIFF\x10\0\0\0WEBPVP8X", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
    )
    return {"image": _base64(begin + chance.randbytes(chance.randrange(0, 200)))}


def with_size(content: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says another size, with the checksum that belongs to it."""
    header = content[12:16] + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


_ARRAYS = (wrong_shape, wrong_kind, deep, padded, cut_base64, cut_npy, huge_npy, pickled_npy, huge_raw, zip_bomb)
Maker = Callable[[random.Random], Any]
MAKERS: dict[str, tuple[Maker, ...]] = {
    "x": (*_ARRAYS, ragged, not_a_number),
    "ids": (*_ARRAYS, not_a_number),
    "text": (*_ARRAYS, surrogates),
    "table": (*_ARRAYS, ragged, bad_csv, bad_records, broken_parquet),
    "image": (*_ARRAYS, lying_image, cut_image, image_bomb, broken_image, noisy_image),
}
