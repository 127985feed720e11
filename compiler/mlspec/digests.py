"""The digest of files' whole content, weights included: read once, then remembered by path, size, date and inode."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mlspec.errors import CommandError
from mlspec.model.facts import ModelFile

_CHUNK_BYTES = 8 << 20
_LARGE_BYTES = 256 << 20
"""From here on reading takes long enough to be told."""
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this ago could change once more and keep its date: it isn't remembered."""
_GIB = 1 << 30
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Digests:
    """`remembered` is a folder of the user's cache; `say` is told how far a long reading is."""

    remembered: Path
    say: Callable[[str], None]

    def of_model(self, folder: Path, files: Iterable[ModelFile]) -> str:
        """The digest of what `sha256sum` prints for these files of the folder, in their order.

        Raises:
            OSError: a file can't be read.
            CommandError: one changed while it was read.
        """
        lines = (f"{self._of(folder / f.path, f)}  {f.path}\n" for f in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _of(self, path: Path, file: ModelFile) -> str:
        return file.sha256 if file.hashed == "content" else self.of(path)

    def of(self, path: Path) -> str:
        """The SHA-256 of a file's whole content. Raises as `of_model`."""
        info = path.stat()
        note = self.remembered / hashlib.sha256(_identity(path, info).encode()).hexdigest()
        known = _read(note)
        if known is not None:
            return known
        found = self._reading(path, info.st_size)
        if _identity(path, path.stat()) != _identity(path, info):
            raise CommandError("model-changed", f"{path.name} changed while it was read", "run the command again")
        if time.time_ns() - info.st_mtime_ns > _SETTLED_NS:
            _write(note, found)
        return found

    def _reading(self, path: Path, size_bytes: int) -> str:
        sha256, done_bytes, buffer = hashlib.sha256(), 0, memoryview(bytearray(_CHUNK_BYTES))
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                sha256.update(buffer[:count])
                done_bytes += count
                if size_bytes >= _LARGE_BYTES:
                    self.say(f"reading {path.name}: {done_bytes / _GIB:.1f} of {size_bytes / _GIB:.1f} GiB")
        return sha256.hexdigest()


def _identity(path: Path, info: os.stat_result) -> str:
    return f"{os.path.realpath(path)}\0{info.st_size}\0{info.st_mtime_ns}\0{info.st_ino}\0{info.st_dev}"


def _read(note: Path) -> str | None:
    try:
        text = note.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return text if _DIGEST.fullmatch(text) else None


def _write(note: Path, digest: str) -> None:
    """Remember it, if that can be: without a cache the next reading takes as long again, and nothing else is lost."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=note.parent, prefix=".")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(digest)
        Path(name).replace(note)
    except OSError:
        return
