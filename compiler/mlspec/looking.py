"""What lies at a path. Every answer of the system becomes a word, or an OSError that `told` puts into a sentence.

Path.is_file and its like won't do: of one fault they raise, of another they say no, and not on each Python the same.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from mlspec.characters import visible
from mlspec.suggest import closest, listed

Kind = Literal["file", "folder", "special", "dead link", "link loop", "nothing"]

NO_FILE: dict[Kind, str] = {
    "folder": "is a folder",
    "special": "is no regular file",
    "dead link": "is a link to nothing",
    "link loop": "is a link in a circle",
    "nothing": "is missing",
}
"""Why something is no file, to be said after its name."""

_NOTHING_CAN_BE_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_MOST_NEIGHBOURS = 2000


def kind_of(path: Path) -> Kind:
    """What lies at the path, links followed. Nothing is opened, so a pipe keeps no one waiting.

    Raises:
        OSError: the system doesn't let it be seen.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL or half a pair: no file can have this name
        return "nothing"
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            return "link loop"
        if problem.errno not in _NOTHING_CAN_BE_THERE:
            raise
        return "dead link" if os.path.islink(path) else "nothing"  # noqa: PTH114 - Path's own raises
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "special"


def lacking(folder: Path, names: Iterable[str]) -> str:
    """Which of these files the folder lacks, as a sentence: `a is a folder`, `a and b are missing`; or nothing.

    Raises:
        OSError: the system doesn't let it be seen.
    """
    wrong = {name: kind for name in names if (kind := kind_of(folder / name)) != "file"}
    if len(wrong) > 1 and set(wrong.values()) == {"nothing"}:
        return f"{listed(map(visible, wrong))} are missing"
    return listed(f"{visible(name)} {NO_FILE[kind]}" for name, kind in wrong.items()) if wrong else ""


def check_readable(file: Path) -> None:
    """Open the regular file and close it again.

    Raises:
        OSError: it can't be opened.
    """
    os.close(os.open(file, os.O_RDONLY))


def stays_inside(path: Path, base: Path) -> bool:
    """Whether the path is below the folder, links followed; a link in a circle leads nowhere and so not out."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(base))


def told(problem: OSError, place: Path, shown: Callable[[Path], str]) -> tuple[str, str]:
    """Message and remedy for what the system refused; `place` is what was looked at if the system doesn't say."""
    path = Path(problem.filename) if isinstance(problem.filename, str) else place
    reason = (problem.strerror or "the system gives no reason").lower()
    if not isinstance(problem, PermissionError):
        message = f"'{visible(shown(path))}' can't be read: {reason}"
        return message, "are its disk and the connection to it all right?"
    blocking = visible(shown(_blocking(path)))
    return f"'{blocking}' can't be read: {reason}", f"check its permissions: ls -ld {shlex.quote(blocking)}"


def near_folder(base: Path, path: str) -> str | None:
    """The folder that the user most likely meant, as a path below `base`; None if there is none near."""
    found = PurePosixPath()
    try:
        for part in PurePosixPath(path).parts:
            near = part if kind_of(base / found / part) == "folder" else closest(part, _folders(base / found))
            if near is None or not stays_inside(base / found / near, base):
                return None
            found /= near
    except OSError:  # it can't be listed: then there is no suggestion
        return None
    return str(found)


def _folders(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry, _ in zip(entries, range(_MOST_NEIGHBOURS), strict=False):
            if not entry.name.startswith(".") and entry.is_dir():
                yield entry.name


def _blocking(path: Path) -> Path:
    """The path itself if it can be seen, else the folder that doesn't let its content be seen."""
    for place in (path, *path.parents):
        try:
            place.stat()
        except OSError:
            continue
        return place
    return path
