"""What a path of the user's brings into a bundle: a file itself, a folder all that is in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mlspec.characters import visible
from mlspec.looking import NO_FILE, check_readable, kind_of, stays_inside
from mlspec.pickles import pickle_in

MOST_FILES = 1000
MOST_BYTES = 64 * 1024 * 1024
"""Of one folder, or one file: what is larger is a model's, which a bundle names and doesn't hold."""

_CACHES = ("__pycache__", "node_modules")


class UserFileError(ValueError):
    """What the user named can't go into a bundle; `code` names the diagnostic's page, `help` is the remedy."""

    def __init__(self, code: str, message: str, help: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help


def files_of(root: Path, path: str) -> dict[str, Path]:
    """The regular files that `path`, a file or a folder of the project at `root`, brings: by their paths in it.

    Of a folder, what is hidden and what Python's cache holds is left out. Nothing is opened but to look whether it is a
    pickle.

    Raises:
        UserFileError: there is nothing, too much of it, or something that no bundle takes.
        OSError: it can't be read.
    """
    _check_shown(path)
    place = root / path
    if not stays_inside(place, root):
        raise _leads_out(path)
    kind = kind_of(place)
    if kind == "folder":
        found = _below(root, str(PurePosixPath(path)))
    elif kind == "file":
        found = {str(PurePosixPath(path)): place}
    else:
        raise UserFileError("file-missing", f"'{visible(path)}' {NO_FILE[kind]}", "name a file or a folder")
    _check_size(found, path)
    for name, file in found.items():
        check_readable(file)
        _check_no_pickle(name, file)
    return found


def _check_shown(path: str) -> None:
    """A hidden file is the tools' (.git) or holds secrets (.env): none of it is a service's."""
    hidden = next((part for part in PurePosixPath(path).parts if part.startswith(".") and part != ".."), None)
    if hidden is not None:
        message = f"'{visible(path)}' is hidden ('{visible(hidden)}'), and nothing that is goes into a bundle"
        raise UserFileError("user-files", message, "give it a name without the dot, if the service needs it")


def _below(root: Path, path: str) -> dict[str, Path]:
    if path == ".":
        help = "put what the service needs into a folder of its own, and name that"
        raise UserFileError("user-files", "the whole project can't be copied into a bundle", help)
    found: dict[str, Path] = {}
    for file in _walked(root, root / path):
        found[file.relative_to(root).as_posix()] = file
        if len(found) > MOST_FILES:
            message = f"the folder '{path}' holds more than {MOST_FILES} files"
            raise UserFileError("user-files", message, "name the folders and files that the code needs")
    if not found:
        raise UserFileError("user-files", f"the folder '{path}' holds no file", "name one that does, or leave it out")
    return dict(sorted(found.items()))


def _walked(root: Path, folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not _is_left_out(name))
        for name in folders:
            _check_linked(root, Path(place, name))
        yield from (_checked(root, Path(place, name)) for name in sorted(names) if not _is_left_out(name))


def _refuse(problem: OSError) -> None:
    raise problem


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name in _CACHES or name.endswith(".pyc")


def _check_linked(root: Path, folder: Path) -> None:
    """A linked folder would be copied twice, or for ever."""
    if folder.is_symlink():
        path = visible(folder.relative_to(root).as_posix())
        if not stays_inside(folder, root):
            raise _leads_out(path)
        raise UserFileError("user-files", f"'{path}' is a link to a folder", "name the folder that it leads to")


def _checked(root: Path, file: Path) -> Path:
    path = file.relative_to(root).as_posix()
    if visible(path) != path or "\\" in path or "\n" in path or "\t" in path:
        message = f"'{visible(path)}' has a character that no file of a bundle may have in its name"
        raise UserFileError("user-files", message.replace("\n", "\\n").replace("\t", "\\t"), "rename it")
    if not stays_inside(file, root):
        raise _leads_out(path)
    kind = kind_of(file)
    if kind != "file":
        raise UserFileError("file-missing", f"'{path}' {NO_FILE[kind]}", "remove it, or name the files by themselves")
    return file


def _leads_out(path: str) -> UserFileError:
    message = f"'{visible(path)}' is a link that leads out of the project"
    return UserFileError("path-outside", message, "copy what it leads to into the project")


def _check_size(found: dict[str, Path], path: str) -> None:
    size_bytes = sum(file.stat().st_size for file in found.values())
    if size_bytes > MOST_BYTES:
        message = f"'{path}' has {size_bytes / 2**20:,.0f} MiB; a bundle takes {MOST_BYTES // 2**20} MiB of it at most"
        raise UserFileError("user-files", message, "put data into the folder that model.artifacts names")


def _check_no_pickle(path: str, file: Path) -> None:
    kind = pickle_in(file)
    if kind:
        message = f"'{visible(path)}' is {kind}: loading it could run anything"
        raise UserFileError("pickle", message, "save it as what holds data only: .npz, .safetensors, .json")
