"""Write a whole file or nothing of it: a reader sees the old content or the new, whenever we are stopped."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)  # as on exFAT


def replace_file(path: Path, content: bytes) -> None:
    """Exchange the content of an existing file; its mode stays, and a link goes on pointing to it.

    Raises:
        OSError: it is no regular file, or can't be read or written; then it is as it was.
    """
    target = path.resolve(strict=True)
    mode = target.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    temporary = _written_beside(target, content, stat.S_IMODE(mode))
    try:
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def create_file(path: Path, content: bytes) -> None:
    """Write a file that isn't there yet, and its folders.

    Raises:
        FileExistsError: it is there, a dead link too; nothing was written.
        OSError: it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _written_beside(path, content, 0o666 & ~_umask())
    try:
        # A link, unlike a rename, never replaces what is there.
        os.link(temporary, path)
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        with path.open("xb") as file:
            file.write(content)
    finally:
        temporary.unlink()


def _written_beside(path: Path, content: bytes, mode: int) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
    except OSError:
        temporary.unlink()
        raise
    return temporary


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
