"""Obtain a model from a store, slowly: obtain_model.py STORE LOG. LOG gets a line each time that one is made."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mlspec.digests import Digests
from mlspec.store import Recipe, Store


def main(store: Path, log: Path) -> None:
    def make(into: Path) -> None:
        into.mkdir()
        (into / "config.json").write_text("{}")
        print("making", flush=True)
        time.sleep(0.3)
        with log.open("a") as file:
            file.write("made\n")

    digests = Digests(store.with_name("digests"), print)
    print(Store(store, digests, print).obtain(Recipe("key", {"bits": 4}, "0" * 64, 1000), make))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
