"""Pickles that leave a mark where they are unpickled: what no file or request may bring mlspec to do."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self._mark,)


def payload(mark: Path, protocol: int = 4) -> bytes:
    """A pickle that makes the folder `mark`."""
    return pickle.dumps(Payload(mark), protocol)
