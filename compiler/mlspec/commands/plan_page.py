"""Where `mlspec plan --html` writes: a file that is new, or a page that it wrote before."""

from __future__ import annotations

import re
from pathlib import Path

from mlspec.characters import visible
from mlspec.errors import CommandError
from mlspec.looking import NO_FILE, kind_of
from mlspec.starting.project import cannot_write
from mlspec.write_file import create_file, replace_file

_MARK = re.compile(rb'<meta name="generator" content="mlspec\b')
_HEAD_BYTES = 1024
"""In which a page has its mark."""


def write_page(place: Path, text: str) -> None:
    """Write the page whole or not at all.

    Raises:
        CommandError: something else is there, or it can't be written.
    """
    content = text.encode("utf-8")
    try:
        if kind_of(place) == "nothing":
            _check_folder(place)
            create_file(place, content)
        else:
            _check_ours(place)
            replace_file(place, content)
    except FileExistsError as problem:  # since we looked
        raise _taken(place, "is there already") from problem
    except OSError as problem:
        error = cannot_write(place, problem)
        raise CommandError(error.code, visible(error.message), error.help, failed=True) from problem


def _check_folder(place: Path) -> None:
    """That it is there: one that isn't is more often a typing error than wanted."""
    place.parent.stat()


def _check_ours(place: Path) -> None:
    if (kind := kind_of(place)) != "file":
        raise _taken(place, NO_FILE[kind])
    with place.open("rb") as file:
        if not _MARK.search(file.read(_HEAD_BYTES)):
            raise _taken(place, "is there already, and is no page of mlspec's")


def _taken(place: Path, why: str) -> CommandError:
    help = "only a page that --html wrote is replaced: name another file, or remove it first"
    return CommandError("file-exists", f"'{visible(str(place))}' {why}", help)
