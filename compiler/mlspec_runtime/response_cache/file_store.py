"""Answers in a file that outlives the process: SQLite's, in a folder that only the user who serves can read."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from mlspec_runtime.response_cache.database import Database, is_busy, is_damaged, private_folder, remove_files
from mlspec_runtime.response_cache.stores import MemoryStore, SizeWatch, size_bytes

LOG = logging.getLogger("mlspec.response_cache")
DATABASE = "answers.sqlite"
MOST_UNWRITTEN = 256
"""Answers that wait for the disk, at most: where it hangs, later ones aren't kept."""


class FileStore:
    """As `MemoryStore`, for one `namespace` of those whose answers the file has; the bounds are those of the file.

    It reads on the event loop and writes on a thread of its own. Any number of processes may share the file. One that
    is damaged is thrown away and begun again; where none can be written, answers are kept in memory, and the log says
    so once.
    """

    def __init__(self, folder: Path, namespace: bytes, entries: int, max_bytes: int, watch: SizeWatch) -> None:
        self._path = folder / DATABASE
        self._namespace = namespace
        self._entries, self._max_bytes = entries, max_bytes
        self._watch = watch
        self._database: Database | None = None
        self._instead: MemoryStore | None = None
        self._unwritten: dict[bytes, bytes] = {}
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="mlspec-answers")
        self._writing.submit(self._open).result()

    def get(self, key: bytes) -> bytes | None:
        if self._instead is not None:
            return self._instead.get(key)
        own = self._own(key)
        waiting, database = self._unwritten.get(own), self._database
        if waiting is not None or database is None:
            return waiting
        try:
            found = database.get(own)
        except sqlite3.Error as problem:
            self._submit(self._mend, database, problem)
            return None
        if found is not None and found.is_stale(time.time_ns()):
            self._submit(database.touch, own)
        return None if found is None else found.answer

    def put(self, key: bytes, answer: bytes) -> None:
        if self._instead is not None:
            self._instead.put(key, answer)
        elif size_bytes(answer) <= self._max_bytes and len(self._unwritten) < MOST_UNWRITTEN:
            own = self._own(key)
            self._unwritten[own] = answer
            self._submit(self._write, own, answer)

    def remove(self, key: bytes) -> None:
        if self._instead is not None:
            self._instead.remove(key)
        elif self._database is not None:
            self._unwritten.pop(self._own(key), None)
            self._submit(self._database.remove, self._own(key))

    def close(self) -> None:
        self._writing.shutdown()
        if self._database is not None:
            self._database.close()
            self._database = None

    def _own(self, key: bytes) -> bytes:
        return hashlib.sha256(self._namespace + key).digest()

    def _submit(self, work: Callable[..., None], *arguments: object) -> None:
        # A thread that closes the store may be ahead of us.
        with suppress(RuntimeError):
            self._writing.submit(self._guarded, work, *arguments)

    # On the thread that writes.

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        database = self._database
        try:
            work(*arguments)
        except sqlite3.Error as problem:
            if database is not None:
                self._mend(database, problem)
        except Exception:
            LOG.exception("response cache: an answer is not kept")

    def _open(self) -> None:
        try:
            private_folder(self._path.parent)
            self._database, entries, kept_bytes = self._opened()
        except (OSError, sqlite3.Error) as problem:
            self._do_without(problem)
            return
        LOG.info("response cache: %s, %d answers, %.1f MiB", self._path, entries, kept_bytes / 2**20)

    def _opened(self) -> tuple[Database, int, int]:
        """The database and its size; begun again if what is there is damaged."""
        try:
            return self._whole()
        except sqlite3.Error as problem:
            if not is_damaged(problem):
                raise
            return self._begun_again(problem)

    def _begun_again(self, problem: sqlite3.Error) -> tuple[Database, int, int]:
        LOG.warning("response cache: %s is damaged (%s); it is begun again", self._path, problem)
        remove_files(self._path)
        return self._whole()

    def _whole(self) -> tuple[Database, int, int]:
        database = Database(self._path)
        try:
            entries, kept_bytes = database.size()
        except sqlite3.Error:
            database.close()
            raise
        self._watch(entries, kept_bytes)
        return database, entries, kept_bytes

    def _write(self, own: bytes, answer: bytes) -> None:
        try:
            if self._database is not None and not self._database.is_in_place():
                self._database.close()
                self._database = None
                self._open()
            if self._database is not None:
                self._watch(*self._database.put(own, answer, self._entries, self._max_bytes))
        finally:
            self._unwritten.pop(own, None)

    def _mend(self, database: Database, problem: sqlite3.Error) -> None:
        """After an error with this database: another process at it is no fault, damage is mended, and without a disk
        to write to there is the memory.
        """
        if database is not self._database or is_busy(problem):
            return
        self._database = None
        database.close()
        if not is_damaged(problem):
            self._do_without(problem)
            return
        try:
            self._database, _, _ = self._begun_again(problem)
        except (OSError, sqlite3.Error) as reason:
            self._do_without(reason)

    def _do_without(self, problem: Exception) -> None:
        LOG.warning("response cache: %s can't be used (%s); answers are kept in memory", self._path, problem)
        self._instead = MemoryStore(self._entries, self._max_bytes, self._watch)
