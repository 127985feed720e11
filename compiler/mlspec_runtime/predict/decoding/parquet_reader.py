"""The process that reads Parquet, seen from the service: started when it is needed, and again when it has ended.

A file that is broken in the right place ends pyarrow with the process that it is in (pyarrow 26 aborts, to raise
something from where C++ mustn't); then the file is refused, and the service goes on.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.decoding.frames import read_frame, write_frame
from mlspec_runtime.predict.signature import Array, BadTensorError

TIMEOUT_S = 30.0
"""For one file; reading one of the largest takes well under a second."""
_MODULE = "mlspec_runtime.predict.decoding.parquet_process"
_PACKAGES = Path(__file__).parents[3]
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")
"""Of the environment: keys and addresses are no business of this process."""
BROKEN = "is a Parquet file that is cut or broken"


class Reader:
    """One process, one file at a time. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def columns(self, content: bytes, names: Sequence[str], *, texts: bool) -> list[Array]:
        """The columns by their names, as arrays of equal length. Raises BadTensorError, ServiceError (415)."""
        with self._lock:
            process = self._running()
            watch = threading.Timer(TIMEOUT_S, process.kill)
            watch.start()
            try:
                return _exchanged(process, content, {"names": list(names), "texts": texts})
            # It has ended, or was made to.
            except (OSError, EOFError):
                self._end()
                raise BadTensorError(BROKEN) from None
            finally:
                watch.cancel()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = _started()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None  # noqa: S101 - both are pipes
        # What is still in its buffer has nobody to read it.
        with suppress(OSError):
            pipe.close()


def _started() -> subprocess.Popen[bytes]:
    """Ready to read. Raises ServiceError (415) if pyarrow can't be imported there."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    process = subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", _MODULE],
        env={**kept, "PYTHONPATH": str(_PACKAGES), "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # An interrupt from the keyboard is for the service: when that ends, so does this.
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101 - a pipe
    try:
        read_frame(process.stdout)
    except EOFError:
        _end(process)
        message = "Parquet needs pyarrow, and that can't be loaded here: send CSV or JSON, or install it again"
        raise ServiceError("unsupported_media_type", message, 415) from None
    return process


def _exchanged(process: subprocess.Popen[bytes], content: bytes, asked: Any) -> list[Array]:
    assert process.stdin is not None  # noqa: S101 - a pipe
    assert process.stdout is not None  # noqa: S101 - a pipe
    write_frame(process.stdin, json.dumps(asked).encode())
    write_frame(process.stdin, content)
    process.stdin.flush()
    answer = json.loads(read_frame(process.stdout))
    if "fault" in answer:
        raise BadTensorError(answer["fault"], tuple(answer["path"]))
    return [_column(process.stdout, texts) for texts in answer["columns"]]


def _column(pipe: Any, texts: list[str] | None) -> Array:
    """Numbers, or the places of the texts that there are."""
    array: Array = np.load(io.BytesIO(read_frame(pipe)), allow_pickle=False)
    if texts is None:
        return array
    known = np.empty(len(texts), dtype=object)
    known[:] = texts
    found: Array = known[array]
    return found


READER = Reader()
"""That of this process."""
atexit.register(READER.close)
