"""The arrays of an .npz file by its headers: a zip of .npy files. No array is read, and nothing is unpickled.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import math
import re
import zipfile
import zlib
from pathlib import Path

from mlspec.characters import quoted, visible
from mlspec.looking import NO_FILE, kind_of
from mlspec.model_files import BadModelFileError, Tensor

_MAGIC = b"\x93NUMPY"
_LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""Of the header's length, by the format's version."""
_HEADER_LIMIT_BYTES = 10_000
"""As numpy's own limit for files of strangers (`numpy.lib.format._MAX_HEADER_SIZE`)."""
_MOST_ARRAYS = 100_000
_DESCR = re.compile(r"[<>|=]([biuf])([1248])")
_LETTERS = {"b": "BOOL", "i": "I", "u": "U", "f": "F"}
_TROUBLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, SyntaxError)
"""What zipfile and ast raise of files that are none: encrypted, compressed by unknown means, cut off, no literal."""


def npz_arrays(path: Path) -> dict[str, Tensor]:
    """The arrays by name, with their types as safetensors calls them.

    Raises:
        BadModelFileError: it isn't there, is no such file, or holds arrays of a type that MLX doesn't read.
        OSError: it can't be read.
    """
    kind = kind_of(path)
    if kind != "file":
        raise _bad(path, NO_FILE[kind])
    try:
        with zipfile.ZipFile(path) as archive:
            return _arrays(path, archive)
    except BadModelFileError:
        raise
    except (*_TROUBLE, RecursionError, MemoryError) as problem:
        raise _bad(path, "is no .npz file, or cut off") from problem


def _arrays(path: Path, archive: zipfile.ZipFile) -> dict[str, Tensor]:
    entries = archive.infolist()
    if len(entries) > _MOST_ARRAYS:
        raise _bad(path, f"holds {len(entries):,} arrays; at most {_MOST_ARRAYS:,} are read")
    found: dict[str, Tensor] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name == entry.filename or name in found:
            raise _bad(path, f"holds {quoted(entry.filename)}, " + ("twice" if name in found else "which is no array"))
        found[name] = _array(path, archive, entry)
    return found


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Tensor:
    with archive.open(entry) as file:
        start = file.read(len(_MAGIC) + 2)
        width = _LENGTH_BYTES.get(start[6]) if len(start) == 8 and start.startswith(_MAGIC) else None
        if width is None:
            raise _bad(path, f"{quoted(entry.filename)} is no array")
        length = int.from_bytes(file.read(width), "little")
        if length > _HEADER_LIMIT_BYTES:
            raise _bad(path, f"{quoted(entry.filename)} has a header of {length:,} bytes")
        header = ast.literal_eval(file.read(length).decode("utf-8" if start[6] == 3 else "latin-1").strip())
    array = _described(path, entry.filename, header)
    if entry.file_size != len(start) + width + length + array.size_bytes:
        raise _bad(path, f"{quoted(entry.filename)} has {entry.file_size:,} bytes, which isn't what its header says")
    return array


def _described(path: Path, name: str, header: object) -> Tensor:
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise _bad(path, f"{quoted(name)} has no header of an array")
    descr, shape = header["descr"], header["shape"]
    known = _DESCR.fullmatch(descr) if isinstance(descr, str) else None
    if known is None:
        raise _bad(path, f"{quoted(name)} has a type that MLX doesn't read: {quoted(visible(str(descr)))}")
    if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
        raise _bad(path, f"{quoted(name)} has no shape")
    letter, size_bytes = known[1], int(known[2])
    dtype = "BOOL" if letter == "b" else f"{_LETTERS[letter]}{size_bytes * 8}"
    return Tensor(dtype, shape, math.prod(shape) * size_bytes)


def _bad(path: Path, reason: str) -> BadModelFileError:
    return BadModelFileError(f"{visible(path.name)}: {reason}")
