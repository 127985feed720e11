"""A model's files: which there are, their digests, and the headers of safetensors files. Weights are never read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.model.facts import ModelFile

HEADER_LIMIT_BYTES = 100_000_000
"""The largest header that the safetensors format allows (safetensors, `MAX_HEADER_SIZE`)."""


class BadModelFileError(ValueError):
    """A file of a model that isn't what its name says. The message names the file."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a header: `shape` in elements, `size_bytes` as stored."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        BadModelFileError: it can't be read, or isn't an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise BadModelFileError(f"{path.name}: {_reason(problem)}") from problem
    if not isinstance(data, dict):
        raise BadModelFileError(f"{path.name}: holds no JSON object")
    return data


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, from its header.

    Raises:
        BadModelFileError: the file is cut off or no safetensors file.
    """
    header = _raw_header(path)
    try:
        entries: Mapping[str, Any] = json.loads(header[8:])
        found = {name: _tensor(entry) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise BadModelFileError(f"{path.name}: its header is no safetensors header") from problem
    expected = len(header) + sum(t.size_bytes for t in found.values())
    if path.stat().st_size != expected:
        raise BadModelFileError(f"{path.name}: is {path.stat().st_size} bytes, its header says {expected}: cut off?")
    return found


def fingerprint(folder: Path, names: Iterable[str]) -> tuple[ModelFile, ...]:
    """Sizes and digests of these files, sorted by name.

    Raises:
        BadModelFileError: one can't be read.
    """
    return tuple(_file(folder, name) for name in sorted(names))


def _file(folder: Path, name: str) -> ModelFile:
    path = folder / name
    if name.endswith(".safetensors"):
        digest = hashlib.sha256(_raw_header(path)).hexdigest()
        return ModelFile(name, path.stat().st_size, digest, "header")
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise BadModelFileError(f"{name}: {_reason(problem)}") from problem
    return ModelFile(name, len(content), hashlib.sha256(content).hexdigest(), "content")


def _raw_header(path: Path) -> bytes:
    """The length prefix and the JSON header, and no byte more."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as problem:
        raise BadModelFileError(f"{path.name}: {_reason(problem)}") from problem
    try:
        length = int.from_bytes(prefix, "little") if len(prefix := os.pread(handle, 8, 0)) == 8 else 0
        if not 2 <= length <= HEADER_LIMIT_BYTES or len(header := os.pread(handle, length, 8)) != length:
            raise BadModelFileError(f"{path.name}: is no safetensors file, or cut off")
    except OSError as problem:
        raise BadModelFileError(f"{path.name}: {_reason(problem)}") from problem
    finally:
        os.close(handle)
    return prefix + header


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    start, end = entry["data_offsets"]
    return Tensor(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), int(end) - int(start))


def _reason(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return (problem.strerror or "can't be read").lower()
    return "is no JSON" if isinstance(problem, json.JSONDecodeError) else "can't be read as UTF-8 JSON"
