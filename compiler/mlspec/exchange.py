"""Swap two folders in one step where the system can, so that a reader sees the old one or the new one."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2(2)
_RENAME_SWAP = 2  # macOS, renamex_np(2)
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange(one: Path, other: Path) -> bool:
    """Swap two existing folders of one file system. False where the system can't, and then nothing was done.

    Raises:
        OSError: it can, and failed.
    """
    call = _swap_call()
    if call is None or call(os.fsencode(one), os.fsencode(other)) == 0:
        return call is not None
    problem = ctypes.get_errno()
    if problem in _UNSUPPORTED:
        return False
    raise OSError(problem, os.strerror(problem), str(other))


def _swap_call() -> Callable[[bytes, bytes], int] | None:
    """The system's own call for it: 0 from it is success, else errno tells."""
    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda a, b: int(library.renamex_np(a, b, _RENAME_SWAP))
    if hasattr(library, "renameat2"):
        return lambda a, b: int(library.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE))
    return None
