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

from mlspec.characters import visible
from mlspec.digests import Digests
from mlspec.errors import CommandError
from mlspec.hardware.budget import gib
from mlspec.model_files import BadModelFileError, files_below, fingerprint, read_json

MANIFEST = "mlspec-derived.json"
MANIFEST_VERSION = 1
"""As `mlspec_runtime.derived` reads it."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MARGIN = 1.02
"""Of the tensors' bytes: tokenizer, configuration, headers, and what the file system takes for itself."""
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
    """The store in `folder`, which needs not be there yet. `say` is told what takes long; what ends with a newline is
    to stay. `digests` tells whether a model is as it was made: its files are read once, then only when they changed.
    """

    folder: Path
    digests: Digests
    say: Callable[[str], None]

    def obtain(self, recipe: Recipe, make: Callable[[Path], None]) -> Path:
        """The folder of a model, made if it isn't there, or isn't as it was made. `make` gets a path at which nothing
        is, and makes a folder.

        Raises:
            CommandError: the disk is full, or what `make` raises.
            OSError: the store can't be read or written.
        """
        place = self.folder / recipe.address
        if self._differing(place) is None:
            return place
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._clear()
            if differing := self._differing(place):
                if place.exists():
                    self.say(f"{visible(str(place))}: {differing}; it is made anew\n")
                self._make(recipe, make, place)
        return place

    def _differing(self, folder: Path) -> str | None:
        """What isn't as it was made in a folder: a user may have removed or changed a file, a disk have lost a bit."""
        try:
            contents = read_json(folder / MANIFEST)["contents"]
            changed = (path for path, sha256 in contents.items() if self.digests.of(folder / path) != sha256)
            first = next(changed, None)
            return None if first is None else f"{visible(first)} isn't as it was made"
        except (OSError, BadModelFileError, KeyError, TypeError, AttributeError, ValueError):
            return "not all of it is there"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("another build is making a model: waiting for it")
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
        message = f"the model takes {gib(needed_bytes)}, {gib(free_bytes)} are free in {self.folder}"
        help = "make room there, or set XDG_CACHE_HOME to a folder on another disk"
        return CommandError("disk-full", message, help, failed=True)


def _seal(folder: Path, recipe: Recipe) -> None:
    """Write the list of the files, and make all of them safe on the disk and read-only.

    `files` are as a service checks them when it starts, by size and header; `contents` as builds do, by every byte.
    """
    files = fingerprint(folder, files_below(folder))
    about = {"version": MANIFEST_VERSION, "key": recipe.key, "content": recipe.content}
    contents = {file.path: _sha256(folder / file.path) for file in files}
    manifest = {
        **about,
        "settings": dict(recipe.settings),
        "files": [vars(file) for file in files],
        "contents": contents,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        _sync(path)
        path.chmod(0o444)
    _sync(folder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
