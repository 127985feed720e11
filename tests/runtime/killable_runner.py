"""The runner `mlx-lm` in a process whose engine thread ends as soon as a file is there: what no request can do."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

from mlspec_runtime.protocol import Runner, RunnerContext

FILE_VARIABLE = "MLSPEC_TESTS_KILL_ENGINE"
ENGINE = "mlspec-engine"


def create(context: RunnerContext) -> Runner:
    # The bundle's own copy.
    from mlspec_runtime.runners.mlx_lm.runtime import create as create_real

    threading.Thread(target=_wait, args=(Path(os.environ[FILE_VARIABLE]),), daemon=True).start()
    return create_real(context)  # type: ignore[no-any-return]


def _wait(file: Path) -> None:
    """In the process that serves: the one that starts it has no engine."""
    while not (file.exists() and _engines()):
        time.sleep(0.02)
    file.unlink()
    (engine,) = _engines()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(engine), ctypes.py_object(SystemExit))


def _engines() -> list[int]:
    return [thread.ident for thread in threading.enumerate() if thread.name == ENGINE and thread.ident]
