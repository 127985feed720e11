"""The SQLite file of answers: a table, and what is done with it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mlspec_runtime.response_cache.stores import size_bytes

VERSION = 1
BUSY_S = 2.0
"""How long a write waits for another process's."""
READ_BUSY_S = 0.02
"""How long a reader, which the event loop waits for, does; in this mode it hardly ever has to."""
STALE_NS = 60 * 10**9
"""An answer's last use is written down anew after this long: not every hit needs a write."""
_DIGEST_BYTES = 16
_FILES = ("", "-wal", "-shm", "-journal")

# Nothing here has to survive a power cut: what that damages is begun again. Removed answers are overwritten.
_SETTINGS = ("journal_mode = WAL", "synchronous = OFF", "secure_delete = ON", "trusted_schema = OFF")
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, answer BLOB NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS by_use ON answers (used DESC, key, size)"
_PUT = "INSERT OR REPLACE INTO answers (key, answer, digest, size, used) VALUES (?, ?, ?, ?, ?)"
_TRIM = """
DELETE FROM answers WHERE key IN (
    SELECT key FROM (
        SELECT key, ROW_NUMBER() OVER latest AS place, SUM(size) OVER latest AS total FROM answers
        WINDOW latest AS (ORDER BY used DESC, key ROWS UNBOUNDED PRECEDING)
    ) WHERE place > ? OR total > ?
)
"""
_SIZE = "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM answers"


@dataclass(frozen=True)
class Found:
    """An answer of the table; `used_ns` is when it was given, about."""

    answer: bytes
    used_ns: int

    def is_stale(self, now_ns: int) -> bool:
        """Whether its use should be written down."""
        return now_ns - self.used_ns > STALE_NS


class Database:
    """An open file: one connection reads, another writes, each used by one thread, and closed by that which writes. All
    raise sqlite3.Error.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._inode = path, _make_private(path)
        # SQLite frees a connection that is closed while another thread reads with it.
        self._reading = threading.Lock()
        self._writer = _connected(path, BUSY_S)
        try:
            self._prepare()
            self._reader = _connected(path, READ_BUSY_S)
        except BaseException:
            self._writer.close()
            raise

    def get(self, key: bytes) -> Found | None:
        """The answer of a key, if it is as it was put in."""
        with self._reading:
            rows = self._reader.execute("SELECT answer, digest, used FROM answers WHERE key = ?", (key,)).fetchall()
        if not rows:
            return None
        answer, digest, used_ns = rows[0]
        if not isinstance(answer, bytes) or not isinstance(used_ns, int) or digest != _digest(key, answer):
            raise DamagedError("an answer isn't as it was written")
        return Found(answer, used_ns)

    def put(self, key: bytes, answer: bytes, entries: int, max_bytes: int) -> tuple[int, int]:
        """Keep an answer, and of all as many as these bounds allow, the last used ones; how many those are, and their
        bytes.
        """
        with self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            row = (key, answer, _digest(key, answer), size_bytes(answer), time.time_ns())
            self._writer.execute(_PUT, row)
            self._writer.execute(_TRIM, (entries, max_bytes))
            return self.size()

    def touch(self, key: bytes) -> None:
        """It was used now."""
        self._writer.execute("UPDATE answers SET used = ? WHERE key = ?", (time.time_ns(), key))

    def remove(self, key: bytes) -> None:
        """Forget an answer."""
        self._writer.execute("DELETE FROM answers WHERE key = ?", (key,))

    def size(self) -> tuple[int, int]:
        """How many answers there are, and their bytes. On the thread that writes."""
        entries, kept_bytes = self._writer.execute(_SIZE).fetchone()
        return int(entries), int(kept_bytes)

    def is_in_place(self) -> bool:
        """Whether the file is still where it was opened: another process that found it damaged puts a new one there."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of the file."""
        with self._reading:
            self._reader.close()
        self._writer.close()

    def _prepare(self) -> None:
        ((version,),) = self._writer.execute("PRAGMA user_version").fetchall()
        if version not in (0, VERSION):
            raise DamagedError(f"its form is {version}, not {VERSION}")
        with self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.execute(_TABLE)
            self._writer.execute(_INDEX)
            self._writer.execute(f"PRAGMA user_version = {VERSION}")


class DamagedError(sqlite3.DatabaseError):
    """What is in the file isn't what was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def is_busy(problem: sqlite3.Error) -> bool:
    """Another process is at the file."""
    return _code(problem) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damaged(problem: sqlite3.Error) -> bool:
    """The file is no database, or not a whole one, or another's."""
    damaged = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH)
    return _code(problem) in damaged


def private_folder(folder: Path) -> None:
    """Make the folder, for its owner alone. Raises OSError if it is somebody else's, or none."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is no folder of this user")
    folder.chmod(0o700)


def remove_files(path: Path) -> None:
    """Remove a database with all that SQLite keeps beside it. Raises OSError."""
    for end in _FILES:
        path.with_name(path.name + end).unlink(missing_ok=True)


def _make_private(path: Path) -> int:
    """SQLite gives the files beside it the permissions of this one. A link is refused: it could lead anywhere. The
    answer is the file's inode.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is no file")
        os.fchmod(handle, 0o600)
        return os.fstat(handle).st_ino
    finally:
        os.close(handle)


def _connected(path: Path, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _digest(key: bytes, answer: bytes) -> bytes:
    """SQLite doesn't see a bit that changed within an answer."""
    return hashlib.blake2b(answer, key=key, digest_size=_DIGEST_BYTES).digest()


def _code(problem: sqlite3.Error) -> int:
    """The primary code; 0 for what didn't come of SQLite itself."""
    return int(getattr(problem, "sqlite_errorcode", 0)) & 0xFF
