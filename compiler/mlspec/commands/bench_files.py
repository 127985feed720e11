"""Where `mlspec bench` writes: a new file, or one that it wrote before. Looked at before anything is measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mlspec.characters import visible
from mlspec.errors import CommandError
from mlspec.looking import NO_FILE, kind_of
from mlspec.starting.project import cannot_write
from mlspec.write_file import create_file, replace_file

_PAGE = re.compile(rb'<meta name="generator" content="mlspec\b')
_RECORD = re.compile(rb'"kind": "mlspec-bench"')
_HEAD_BYTES = 1024


def is_page(content: bytes) -> bool:
    """Whether a file is a page of mlspec's."""
    return bool(_PAGE.search(content[:_HEAD_BYTES]))


def is_record(content: bytes) -> bool:
    """Whether a file is a record of mlspec's."""
    return bool(_RECORD.search(content))


def check_place(place: Path, is_ours: Callable[[bytes], bool]) -> None:
    """Raises CommandError if something else is there, or there is no folder for it."""
    try:
        if (kind := kind_of(place)) == "nothing":
            place.parent.stat()
        elif kind != "file":
            raise _taken(place, NO_FILE[kind])
        elif not is_ours(place.read_bytes()):
            raise _taken(place, "is there already, and mlspec bench didn't write it")
    except OSError as problem:
        raise _failed(place, problem) from problem


def write(place: Path, text: str, is_ours: Callable[[bytes], bool]) -> None:
    """Write the file whole or not at all.

    Raises:
        CommandError: something else is there, or it can't be written.
    """
    check_place(place, is_ours)
    try:
        if kind_of(place) == "nothing":
            create_file(place, text.encode())
        else:
            replace_file(place, text.encode())
    except FileExistsError as problem:  # since we looked
        raise _taken(place, "is there already") from problem
    except OSError as problem:
        raise _failed(place, problem) from problem


def _failed(place: Path, problem: OSError) -> CommandError:
    error = cannot_write(place, problem)
    return CommandError(error.code, visible(error.message), error.help, failed=True)


def _taken(place: Path, why: str) -> CommandError:
    help = "only what mlspec bench wrote is replaced: name another file, or remove it first"
    return CommandError("file-exists", f"'{visible(str(place))}' {why}", help)
