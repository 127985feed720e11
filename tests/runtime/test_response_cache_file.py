"""Answers in a file: they outlive the process, stay private and within bounds, and nothing about the file can fail a
request.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlspec_runtime.plan import ServiceInfo
from mlspec_runtime.response_cache.database import Database
from mlspec_runtime.response_cache.file_store import DATABASE, MOST_UNWRITTEN, FileStore
from mlspec_runtime.response_cache.places import folder_of, namespace
from mlspec_runtime.response_cache.stores import ENTRY_BYTES, MemoryStore
from runtime.services import wait_until
from support.share_answers import ENTRIES

SCRIPT = Path(__file__).parents[1] / "support/share_answers.py"
SERVICE = ServiceInfo("demo", "tests", "here")


class Sizes:
    def __init__(self) -> None:
        self.last = (-1, -1)

    def __call__(self, entries: int, size_bytes: int) -> None:
        self.last = (entries, size_bytes)


Open = Callable[..., FileStore]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Open]:
    """Opens stores in one folder, and closes them at last."""
    opened = []

    def a_store(
        namespace: bytes = b"model", entries: int = 8, max_bytes: int = 1 << 20, folder: Path | None = None
    ) -> FileStore:
        store = FileStore(folder or tmp_path / "own", namespace, entries, max_bytes, Sizes())
        opened.append(store)
        return store

    yield a_store
    for store in opened:
        store.close()


def put(store: FileStore, *names: bytes, answer: bytes = b"{}") -> None:
    """Keep answers, and wait until they are in the file."""
    for name in names:
        store.put(name, answer)
        wait_until(lambda: not store._unwritten)


def there(store: FileStore, *names: bytes) -> list[bool]:
    return [store.get(name) is not None for name in names]


def test_answers_outlive_the_process(stores: Open) -> None:
    first = stores()
    first.put(b"question", b'{"text": "answer"}')
    # At once, though it isn't written yet.
    assert first.get(b"question") == b'{"text": "answer"}'
    first.close()
    assert stores().get(b"question") == b'{"text": "answer"}'


def test_another_model_has_answers_of_its_own(stores: Open) -> None:
    put(stores(b"model"), b"question", answer=b"1")
    other = stores(b"another model")
    assert other.get(b"question") is None
    put(other, b"question", answer=b"2")
    assert (stores(b"model").get(b"question"), other.get(b"question")) == (b"1", b"2")


def test_it_is_bounded_in_entries(stores: Open) -> None:
    store = stores(entries=3)
    put(store, b"a", b"b", b"c", b"d")
    assert there(store, b"a", b"b", b"c", b"d") == [False, True, True, True]
    put(store, b"b", answer=b"{}")
    put(store, b"e")
    assert there(store, b"b", b"c", b"d", b"e") == [True, False, True, True]
    assert store._watch.last == (3, 3 * (2 + ENTRY_BYTES))  # type: ignore[attr-defined]


def test_it_is_bounded_in_bytes(stores: Open, tmp_path: Path) -> None:
    store = stores(entries=1000, max_bytes=100_000)
    for number in range(100):
        put(store, str(number).encode(), answer=os.urandom(5000))
    put(store, b"large", answer=bytes(200_000))
    assert sum(there(store, *(str(number).encode() for number in range(100)))) == 100_000 // (5000 + ENTRY_BYTES)
    assert not there(store, b"large")[0]
    store.close()
    assert (tmp_path / "own" / DATABASE).stat().st_size < 300_000


def test_what_was_asked_for_stays(stores: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlspec_runtime.response_cache.database.STALE_NS", 0)
    store = stores(entries=2)
    put(store, b"a", b"b")
    assert store.get(b"a") == b"{}"
    put(store, b"c")
    assert there(store, b"a", b"b", b"c") == [True, False, True]


def test_a_use_within_a_minute_is_not_written(stores: Open) -> None:
    store = stores()
    put(store, b"a")
    database = store._database
    assert database is not None
    before = database._writer.total_changes
    for _ in range(100):
        store.get(b"a")
    put(store, b"b")  # whatever was to be written before has been
    assert database._writer.total_changes == before + 1


def test_removed_answers_are_gone_from_the_file(stores: Open, tmp_path: Path) -> None:
    store = stores()
    secret = b"a very private answer " * 300
    put(store, b"a", answer=secret)
    store.remove(b"a")
    store.close()
    assert stores().get(b"a") is None
    files = list((tmp_path / "own").iterdir())
    assert files
    assert not any(b"very private" in path.read_bytes() for path in files if path.name == DATABASE)


def test_it_is_private(stores: Open, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "own").mkdir(mode=0o777)
        store = stores()
        put(store, b"a")
        files = list((tmp_path / "own").iterdir())
        assert {path.name for path in files} == {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"}
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
        assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


# Damage


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all " * 1000)


def _cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwritten(path: Path) -> None:
    """All pages after the first."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))


def _another_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _another_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE answers")
    connection.execute("CREATE TABLE answers (something TEXT)")
    connection.close()


def _other_bits(path: Path) -> None:
    """What SQLite itself doesn't see."""
    content = path.read_bytes()
    assert b"an answer" in content
    path.write_bytes(content.replace(b"an answer", b"no answer"))


@pytest.mark.parametrize("spoil", [_garbage, _cut_off, _overwritten, _another_version, _another_table, _other_bits])
def test_what_is_damaged_is_begun_again(
    stores: Open, tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    first = stores()
    put(first, *(str(number).encode() for number in range(8)), answer=b"this is an answer " * 100)
    first.close()
    spoil(tmp_path / "own" / DATABASE)
    second = stores()
    assert not any(there(second, *(str(number).encode() for number in range(8))))
    second._writing.submit(str).result()  # what was found is mended
    put(second, b"new", answer=b"kept")
    second.close()
    assert stores().get(b"new") == b"kept"
    assert sum("is damaged" in record.getMessage() for record in caplog.records) == 1
    assert "this is an answer" not in caplog.text


def test_what_is_damaged_while_it_is_open(stores: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = stores()
    put(store, *(str(number).encode() for number in range(8)), answer=b"this is an answer " * 1000)
    database = store._database
    assert database is not None
    database._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    with (tmp_path / "own" / DATABASE).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(os.urandom(size))
    assert store.get(b"0") is None
    wait_until(lambda: store._database is not database)
    wait_until(lambda: store._database is not None)
    put(store, b"new", answer=b"kept")
    assert store.get(b"new") == b"kept"
    assert sum("is damaged" in record.getMessage() for record in caplog.records) == 1


def test_a_file_that_another_process_begins_again(stores: Open, tmp_path: Path) -> None:
    """It removes ours as it does so."""
    store = stores()
    put(store, b"a")
    for path in (tmp_path / "own").iterdir():
        path.unlink()
    put(store, b"b")
    assert (store._instead, stores().get(b"b")) == (None, b"{}")


# A disk that can't be written to


def _in_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "own"


def _a_link(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "link"


def _a_linked_file(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / DATABASE).symlink_to(tmp_path / "precious")
    return tmp_path / "folder"


def _a_folder_in_its_place(tmp_path: Path) -> Path:
    (tmp_path / "folder" / DATABASE).mkdir(parents=True)
    return tmp_path / "folder"


@pytest.mark.parametrize("place", [_in_a_file, _a_link, _a_linked_file, _a_folder_in_its_place])
def test_where_none_can_be_written_memory_does(
    stores: Open, tmp_path: Path, place: Callable[[Path], Path], caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(folder=place(tmp_path), entries=2)
    for name in (b"a", b"b", b"c"):
        store.put(name, b"{}")
    assert there(store, b"a", b"b", b"c") == [False, True, True]
    store.remove(b"c")
    assert store.get(b"c") is None
    (told,) = [record.getMessage() for record in caplog.records]
    assert "answers are kept in memory" in told
    assert not (tmp_path / "precious").exists()
    assert not list(tmp_path.glob("elsewhere/*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(stores: Open, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    os.chown(tmp_path / "own", 12345, 12345)
    assert isinstance(stores()._instead, MemoryStore)
    assert not list((tmp_path / "own").iterdir())


def test_a_disk_that_gets_full(stores: Open, caplog: pytest.LogCaptureFixture) -> None:
    store = stores()
    put(store, b"a")
    assert store._database is not None
    store._database._writer.execute("PRAGMA max_page_count = 8").fetchall()
    put(store, b"large", answer=os.urandom(100_000))
    wait_until(lambda: store._instead is not None)
    store.put(b"b", b"{}")
    assert store.get(b"b") == b"{}"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "full" in warnings[0]


def test_a_disk_that_hangs_holds_no_answers_back(stores: Open) -> None:
    store = stores()
    other = sqlite3.connect(store._path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        for number in range(2 * MOST_UNWRITTEN):
            store.put(str(number).encode(), b"{}")
        assert len(store._unwritten) <= MOST_UNWRITTEN
        assert store.get(b"0") == b"{}"
        assert store.get(b"nothing") is None
    finally:
        other.execute("ROLLBACK")
        other.close()
    wait_until(lambda: not store._unwritten, timeout_s=30)
    assert store._instead is None


def test_after_closing_nothing_is_kept_and_nothing_fails(stores: Open) -> None:
    store = stores()
    put(store, b"a")
    store.close()
    store.close()
    store.put(b"b", b"{}")
    store.remove(b"a")
    assert store.get(b"a") is None


def test_processes_share_a_file(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, SCRIPT, str(tmp_path / "own"), name], stdout=subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    found = [int(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(found)
    database = Database(tmp_path / "own" / DATABASE)
    assert database.size()[0] == ENTRIES
    database.close()


# Whose answers they are


def test_a_service_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert folder_of(SERVICE, {"HOME": "/home/me"}) == Path("/home/me/.cache/mlspec/responses/tests.demo.here")
    assert folder_of(SERVICE, {"MLSPEC_CACHE_DIR": "/var/x"}) == Path("/var/x/responses/tests.demo.here")
    strange = ServiceInfo("../..", "a/b", "..")
    assert folder_of(strange, {"HOME": "/h"}) == Path("/h/.cache/mlspec/responses/a_b._____.__")


def a_bundle(folder: Path) -> tuple[Path, dict[str, Path]]:
    for path in ("plan.json", "service.py", "mlspec_runtime/app.py", "user/chat.jinja", "base/model.safetensors"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return folder, {"base": folder / "base"}


@pytest.mark.parametrize("path", ["plan.json", "service.py", "mlspec_runtime/app.py", "user/chat.jinja"])
def test_another_plan_or_code_has_other_answers(tmp_path: Path, path: str) -> None:
    before = namespace(*a_bundle(tmp_path))
    (tmp_path / path).write_text("another")
    assert namespace(tmp_path, {"base": tmp_path / "base"}) != before


def test_another_model_has_other_answers(tmp_path: Path) -> None:
    bundle, models = a_bundle(tmp_path)
    before = namespace(bundle, models)
    assert namespace(bundle, models) == before
    weights = bundle / "base/model.safetensors"
    os.utime(weights, ns=(1, 1))
    trained_again = namespace(bundle, models)
    (bundle / "notes.txt").write_text("nothing to do with it")
    assert namespace(bundle, models) == trained_again
    assert len({before, trained_again, namespace(bundle, {"adapters/a": bundle / "base"})}) == 3
