"""What kind of input it is: by a file's name, or by what lies in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mlspec_runtime.batch.faults import BatchError, unreadable
from mlspec_runtime.batch.job import FORMATS, Format
from mlspec_runtime.batch.sources import InputFile, Reader, Source
from mlspec_runtime.batch.sources.comma_separated import CommaSeparated
from mlspec_runtime.batch.sources.folder import FilesOfAFolder
from mlspec_runtime.batch.sources.jsonl import JsonLines
from mlspec_runtime.batch.sources.tables import Tables

_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_TEXTS = (".txt",)
_KINDS: Mapping[str, str] = {**FORMATS, **dict.fromkeys(_IMAGES, "image"), **dict.fromkeys(_TEXTS, "text")}
_HELP = "give a .parquet, .jsonl or .csv file, or a folder of such files, of images or of .txt files"
_COPY = "copy what it leads to into the folder, or take the link away"


def open_source(path: Path) -> Source:
    """The input at this path. Raises BatchError: there is none, or it is nothing of the kind."""
    try:
        if path.is_dir():
            return _folder(path)
        kind = FORMATS.get(path.suffix.lower())
        if not path.is_file() or kind is None:
            told = "is no table" if path.exists() else "is not there"
            raise BatchError("input", f"the input {path} {told}", _HELP)
        return _tables((_looked_at(path),), kind)
    except OSError as problem:
        raise unreadable(problem, path) from problem


def _folder(folder: Path) -> Source:
    within = os.path.realpath(folder)
    found = [_found_at(path, within) for path in _files(folder) if _kind(path)]
    kinds = {_kind(file.path) for file in found}
    if len(kinds) > 1:
        message = f"the folder {folder} holds files of several kinds: {', '.join(sorted(kinds))}"
        raise BatchError("input", message, "name a folder with files of one kind")
    if not found:
        raise BatchError("input", f"the folder {folder} holds no rows", _HELP)
    (kind,) = kinds
    if kind in ("image", "text"):
        return FilesOfAFolder(folder, kind, tuple(found))
    for file in found:
        if file.fault:
            raise BatchError("input", f"{file.path}: {file.fault}", _COPY)
    return _tables(tuple(found), next(format for format in FORMATS.values() if format == kind))


def _files(folder: Path) -> Iterator[Path]:
    """All files below it but hidden ones, and links that lead nowhere, in the order of their paths."""
    found = []
    for at, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for linked in (Path(at, name) for name in folders):
            if linked.is_symlink():
                raise BatchError("input", f"{linked} is a link to a folder, which is not followed", _COPY)
        found += [Path(at, name) for name in names if not name.startswith(".")]
    files = (path for path in found if path.is_file() or (path.is_symlink() and not path.exists()))
    yield from sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _refuse(problem: OSError) -> None:
    raise unreadable(problem, problem.filename)


def _kind(path: Path) -> str:
    return _KINDS.get(path.suffix.lower(), "")


def _found_at(path: Path, within: str) -> InputFile:
    """A file of a folder; a link that leads out of it is not followed."""
    if not path.is_symlink():
        return _looked_at(path)
    if not path.is_file():
        fault = "the link leads nowhere"
    elif not Path(os.path.realpath(path)).is_relative_to(within):
        fault = "the link leads out of the input's folder, and is not followed"
    else:
        return _looked_at(path)
    about = path.lstat()
    return InputFile(path, about.st_size, about.st_mtime_ns, fault)


def _looked_at(path: Path) -> InputFile:
    about = path.stat()
    return InputFile(path, about.st_size, about.st_mtime_ns)


def _tables(files: tuple[InputFile, ...], kind: Format) -> Tables:
    make = _READERS[kind]
    return Tables(files, [make(file.path) for file in files])


def _parquet(path: Path) -> Reader:
    try:
        from mlspec_runtime.batch.sources.parquet import Parquet
    except ImportError as problem:
        raise no_pyarrow() from problem
    return Parquet(path)


def no_pyarrow() -> BatchError:
    """Parquet is asked for, and nothing here reads or writes it."""
    return BatchError("installed", "Parquet files need pyarrow, which isn't installed here", "pip install pyarrow")


_READERS: Mapping[Format, Callable[[Path], Reader]] = {
    "parquet": _parquet,
    "jsonl": JsonLines,
    "csv": CommaSeparated,
}
