"""Puts answers into a file store that other processes use, too, and reads those that are there, for some time."""

from __future__ import annotations

import sys
from pathlib import Path

from mlspec_runtime.response_cache.file_store import FileStore
from mlspec_runtime.response_cache.stores import MemoryStore

ENTRIES, ROUNDS = 20, 150


def answer_to(name: str) -> bytes:
    return f"the answer to {name} ".encode() * 20


def share(folder: Path, own: str) -> None:
    """Each process puts answers of its own, and asks for those of all."""
    store = FileStore(folder, b"one model", ENTRIES, 1 << 20, lambda entries, size_bytes: None)
    found = 0
    for number in range(ROUNDS):
        store.put(f"{own} {number}".encode(), answer_to(f"{own} {number}"))
        for other in ("a", "b", "c"):
            name = f"{other} {number}"
            answer = store.get(name.encode())
            assert answer in (None, answer_to(name)), name
            found += answer is not None
    assert not isinstance(store._instead, MemoryStore), "it gave the file up"
    store.close()
    print(found)


if __name__ == "__main__":
    share(Path(sys.argv[1]), sys.argv[2])
