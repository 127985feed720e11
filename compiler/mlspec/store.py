"""Models that builds make of others, each made once: folders below the user's cache, named by what they were made of.

A folder takes its name only when it is whole, so that a build that is killed at any moment leaves none that is taken
for one. Who makes one holds the store locked: others that want to make one wait, as two conversions at once would need
the memory of both; the system lets go of the lock when a build dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.errors import CommandError
from mlspec.model_files import BadModelFileError, files_below, fingerprint, read_json

MANIFEST = "mlspec-derived.json"
MANIFEST_VERSION = 1
"""As `mlspec_runtime.derived` reads it."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MARGIN = 1.02
"""Of the tensors' bytes: tokenizer, configuration, headers, and what the file system takes for itself."""
_GIB = 1 << 30
_UNFINISHED = ".making-"


@dataclass(frozen=True)
class Recipe:
    """What a model is made of: `key` and `settings` as in the plan, and the digest of the source's whole content.

    The key alone wouldn't do: a plan knows tensors by their headers, and training leaves those as they are.
    """

    key: str
    settings: Mapping[str, Any]
    content: str
    bytes: int

    @property
    def address(self) -> str:
        return hashlib.sha256(f"{self.key}\n{self.content}\n".encode()).hexdigest()


@dataclass(frozen=True)
class Store:
    """The store in `folder`, which needs not be there yet. `say` is told what takes long."""

    folder: Path
    say: Callable[[str], None]

    def obtain(self, recipe: Recipe, make: Callable[[Path], None]) -> Path:
        """The folder of a model, made if it isn't there: `make` gets a path at which nothing is, and makes a folder.

        Raises:
            CommandError: the disk is full, or what `make` raises.
            OSError: the store can't be read or written.
        """
        place = self.folder / recipe.address
        if _whole(place):
            return place
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._clear()
            if not _whole(place):
                self._make(recipe, make, place)
        return place

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("another build is quantizing a model: waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _clear(self) -> None:
        """Remove what killed builds left: who holds the lock makes the only one."""
        for left in self.folder.glob(f"{_UNFINISHED}*"):
            _remove(left)

    def _make(self, recipe: Recipe, make: Callable[[Path], None], place: Path) -> None:
        self._check_room(recipe.bytes)
        # A name of its own: a converter that outlived its killed build must not write into this one.
        around = Path(tempfile.mkdtemp(dir=self.folder, prefix=_UNFINISHED))
        try:
            made = around / "model"
            make(made)
            _seal(made, recipe)
            if place.exists():
                _remove(place)
            made.rename(place)
            _sync(self.folder)
        except OSError as problem:
            if problem.errno in _FULL:
                raise self._no_room(recipe.bytes) from problem
            raise
        finally:
            _remove(around)

    def _check_room(self, needed_bytes: int) -> None:
        if shutil.disk_usage(self.folder).free < needed_bytes * _MARGIN:
            raise self._no_room(needed_bytes)

    def _no_room(self, needed_bytes: int) -> CommandError:
        free_bytes = shutil.disk_usage(self.folder).free
        message = (
            f"the model takes {needed_bytes / _GIB:.1f} GiB, {free_bytes / _GIB:.1f} GiB are free in {self.folder}"
        )
        help = "make room there, or set XDG_CACHE_HOME to a folder on another disk"
        return CommandError("disk-full", message, help, failed=True)


def _whole(folder: Path) -> bool:
    """Whether a folder holds all that its list names: a user may have removed a file."""
    try:
        listed = read_json(folder / MANIFEST)["files"]
        return all((folder / file["path"]).stat().st_size == file["size_bytes"] for file in listed)
    except (OSError, BadModelFileError, KeyError, TypeError):
        return False


def _seal(folder: Path, recipe: Recipe) -> None:
    """Write the list of the files, and make all of them safe on the disk and read-only."""
    files = [vars(file) for file in fingerprint(folder, files_below(folder))]
    about = {"version": MANIFEST_VERSION, "key": recipe.key, "content": recipe.content}
    manifest = {**about, "settings": dict(recipe.settings), "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        _sync(path)
        path.chmod(0o444)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder)
