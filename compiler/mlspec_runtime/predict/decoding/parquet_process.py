"""Reads Parquet files that come through its standard input, until that ends: `python -m` this module.

It is kept small in memory and gets nothing but the files: whatever they do to pyarrow, they do to this process alone.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from typing import IO, Any

import numpy as np

from mlspec_runtime.predict.decoding.frames import read_frame, write_frame
from mlspec_runtime.predict.decoding.parquet_columns import columns
from mlspec_runtime.predict.signature import BadTensorError

MOST_BYTES = 4 << 30
"""Of its address space, where the system holds it to that (macOS doesn't); the sizes of files are checked before."""


def main() -> None:
    """Serve, until the other side ends."""
    _limit()
    # As slow as reading a file, and the service learns by it whether it works at all.
    import pyarrow.parquet  # noqa: F401

    asking, answering = sys.stdin.buffer, sys.stdout.buffer
    write_frame(answering, b"ready")
    answering.flush()
    while True:
        try:
            asked, content = json.loads(read_frame(asking)), read_frame(asking)
        except EOFError:
            return
        _answer(answering, asked, content)
        answering.flush()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        allowed = MOST_BYTES if most == resource.RLIM_INFINITY else min(MOST_BYTES, most)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, most))


def _answer(pipe: IO[bytes], asked: Any, content: bytes) -> None:
    try:
        found = columns(content, asked["names"], texts=asked["texts"])
    except BadTensorError as fault:
        write_frame(pipe, json.dumps({"fault": str(fault), "path": fault.path}).encode())
        return
    write_frame(pipe, json.dumps({"columns": [column.texts for column in found]}).encode())
    for column in found:
        file = io.BytesIO()
        np.save(file, column.numbers, allow_pickle=False)
        write_frame(pipe, file.getvalue())


if __name__ == "__main__":
    main()
