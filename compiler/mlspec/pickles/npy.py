"""NumPy's `.npy` files: their header tells whether the elements are Python objects, which NumPy pickles."""

from __future__ import annotations

import ast
import re
from typing import Any, BinaryIO

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 20
_OBJECTS = re.compile(r"O|object")
"""In NumPy's names of types; no other one has a capital O."""


def is_npy(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    return head.startswith(_MAGIC)


def holds_objects(file: BinaryIO) -> bool:
    """Whether its elements are objects, or parts of them are; a header that can't be read could say so."""
    file.seek(len(_MAGIC))
    version = file.read(2)
    length = int.from_bytes(file.read(2 if version[:1] == b"\x01" else 4), "little")
    if length > _LONGEST_HEADER:
        return True
    try:
        header = ast.literal_eval(file.read(length).decode("utf-8"))
        return _has_objects(header["descr"])
    except (ValueError, SyntaxError, LookupError, TypeError, RecursionError, MemoryError):
        return True
    finally:
        file.seek(0)


def _has_objects(descr: Any) -> bool:
    """Of a type's name, of a pair of a type and a shape, of the fields (name, type, shape?) of a structure."""
    if isinstance(descr, str):
        return bool(_OBJECTS.search(descr))
    if isinstance(descr, tuple):
        return _has_objects(descr[0])
    if isinstance(descr, list):
        return any(_has_objects(field[1]) for field in descr)
    return True
