"""A model's files: which there are, their digests, and the headers of safetensors files. Weights are never read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from mlspec.characters import visible
from mlspec.looking import NO_FILE, kind_of
from mlspec.model.facts import ModelFile

JSON_LIMIT_BYTES = 64 * 1024 * 1024
"""The largest JSON file that is read: the index of a model of thousands of shards has less than a tenth of it."""

HEADER_LIMIT_BYTES = 100_000_000
"""The largest header that the safetensors format allows (safetensors, `MAX_HEADER_SIZE`)."""


_MOST_DIMENSIONS = 32
_LARGEST = 2**63 - 1
_DTYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}")
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16}
_BITS |= {"U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64}


class BadModelFileError(ValueError):
    """A file of a model that is missing or isn't what its name says. The message names the file.

    What the system refuses to read is an OSError: the pass `inspect` reports that for all runners.
    """


class Tensor(NamedTuple):
    """One tensor of a header: `shape` in elements, `size_bytes` as stored."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder, of `JSON_LIMIT_BYTES` at most.

    Raises:
        BadModelFileError: it is missing, too large, or no object.
    """
    with _opened(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > JSON_LIMIT_BYTES:
            raise _bad(path, f"has {size_bytes:,} bytes; at most {JSON_LIMIT_BYTES:,} are read")
        content = file.read(JSON_LIMIT_BYTES)
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        reason = "is no JSON" if isinstance(problem, json.JSONDecodeError) else "can't be read as UTF-8 JSON"
        raise _bad(path, reason) from problem
    if not isinstance(data, dict):
        raise _bad(path, "holds no JSON object")
    return data


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, from its header.

    Raises:
        BadModelFileError: the file is missing, cut off or no safetensors file.
    """
    return read_tensors(path.parent, path.name)[1]


def read_tensors(folder: Path, name: str) -> tuple[ModelFile, dict[str, Tensor]]:
    """A safetensors file as `fingerprint` gives it, and its tensors: the header is read once, and no byte after it.

    Raises:
        BadModelFileError: the file is missing, cut off or no safetensors file.
    """
    path = folder / name
    _check_name(path)
    with _opened(path) as file:
        header = _raw_header(path, file)
        size_bytes = os.fstat(file.fileno()).st_size
    try:
        found, data_bytes = _parsed(header[8:])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise _bad(path, "its header is no safetensors header") from problem
    expected = len(header) + data_bytes
    if size_bytes < expected:
        raise _bad(path, f"is {size_bytes} bytes, its header says {expected}: cut off?")
    if size_bytes > expected:
        raise _bad(path, f"is {size_bytes} bytes, {size_bytes - expected} more than its header says")
    return _header_file(name, size_bytes, header), found


def files_below(folder: Path) -> Iterator[str]:
    """The paths of all regular files of the folder and of those in it; linked folders are left out.

    Raises:
        OSError: a folder can't be read.
    """
    for place, _, names in os.walk(folder, onerror=_refuse):
        paths = (Path(place, name) for name in names)
        yield from (path.relative_to(folder).as_posix() for path in paths if kind_of(path) == "file")


def _refuse(problem: OSError) -> None:
    raise problem


def fingerprint(folder: Path, names: Iterable[str]) -> tuple[ModelFile, ...]:
    """Sizes and digests of these files, sorted by name.

    Raises:
        BadModelFileError: one is missing, is no regular file, or has a name that is no text.
    """
    return tuple(_file(folder, name) for name in sorted(names))


def _file(folder: Path, name: str) -> ModelFile:
    path = folder / name
    _check_name(path)
    with _opened(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if name.endswith(".safetensors"):
            return _header_file(name, size_bytes, _raw_header(path, file))
        return ModelFile(name, size_bytes, hashlib.file_digest(file, "sha256").hexdigest(), "content")


def _header_file(name: str, size_bytes: int, header: bytes) -> ModelFile:
    return ModelFile(name, size_bytes, hashlib.sha256(header).hexdigest(), "header")


def _check_name(path: Path) -> None:
    if visible(path.name) != path.name:
        raise _bad(path, "its name has a character that no file of a model may have in it")


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The regular file: anything else is refused before it is opened, as a pipe would keep us waiting."""
    kind = kind_of(path)
    if kind != "file":
        raise _bad(path, NO_FILE[kind])
    with path.open("rb") as file:
        yield file


def _raw_header(path: Path, file: BufferedReader) -> bytes:
    """The length prefix and the JSON header, and no byte more."""
    handle = file.fileno()
    length = int.from_bytes(prefix, "little") if len(prefix := os.pread(handle, 8, 0)) == 8 else 0
    if not 2 <= length <= HEADER_LIMIT_BYTES or len(header := os.pread(handle, length, 8)) != length:
        raise _bad(path, "is no safetensors file, or cut off")
    return prefix + header


def _parsed(header: bytes) -> tuple[dict[str, Tensor], int]:
    """The tensors, and how many bytes they fill: without a hole, and none over another, as the format wants."""
    known: dict[Any, Tensor] = {}
    found = {name: _tensor(entry, known) for name, entry in _entries(header).items() if name != "__metadata__"}
    end = 0
    for start, size_bytes in sorted([(start, tensor.size_bytes) for start, tensor in found.values()]):
        if start != end:
            raise ValueError("a hole, or two tensors in one place")
        end += size_bytes
    return {name: tensor for name, (_, tensor) in found.items()}, end


def _entries(header: bytes) -> dict[str, Any]:
    """The header's object. A large one holds a hundred thousand small ones, so that a hook for each is slow: as many
    colons as the parsed object has keys say that none was there twice, and that no text holds a colon.
    """
    entries: dict[str, Any] = json.loads(header.decode("utf-8"))
    inner = sum(len(entry) for entry in entries.values() if isinstance(entry, dict))
    if header.count(b":") != len(entries) + inner:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=_without_doubles)
    return entries


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name twice")
    return entries


def _tensor(entry: dict[str, Any], known: dict[Any, Tensor]) -> tuple[int, Tensor]:
    """A tensor and where it starts. Thousands are alike: `known` has those that were looked at."""
    start, end = entry["data_offsets"]
    # The type itself: to isinstance, true is a whole number.
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= _LARGEST:
        raise ValueError("no place of a tensor")
    if type(entry["shape"]) is not list:
        raise ValueError("no shape")
    key = (entry["dtype"], tuple(entry["shape"]), end - start)
    if key not in known:
        _check_tensor(*key)
        known[key] = Tensor(*key)
    return start, known[key]


def _check_tensor(dtype: str, shape: tuple[int, ...], size_bytes: int) -> None:
    if len(shape) > _MOST_DIMENSIONS or not _DTYPE.fullmatch(dtype):
        raise ValueError("no tensor")
    if not all(type(length) is int and 0 <= length <= _LARGEST for length in shape):
        raise ValueError("no numbers of a tensor")
    bits = _BITS.get(dtype)
    if bits is not None and math.prod(shape) * bits != size_bytes * 8:
        raise ValueError("a shape that doesn't fill its place")


def _bad(path: Path, reason: str) -> BadModelFileError:
    return BadModelFileError(f"{visible(path.name)}: {reason}")
