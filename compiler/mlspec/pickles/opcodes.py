"""Pickles without any archive around them: their operations are followed, and none is carried out.

A pickle of protocol 0 or 1 has no mark at its begin, and any of their operations may come first; what an unpickler
would do is followed until it would call something, or end. Text that begins with the letter of an operation soon holds
one that isn't any, or that misses what it takes.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field
from typing import BinaryIO

_FIRST_OPERATION, _LAST_PROTOCOL = 0x80, 5
_IMPORTS = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_ASKING = {"PERSID", "BINPERSID"}
"""An unpickler refuses these unless it was told what they mean; those that were read pickles with a mark."""
_ENOUGH_OPERATIONS = 4096
"""So many without a fault are no accident, and a file may hold any number before the one that calls."""
_ENOUGH_OF_MARKED = 3
_LONGEST_LINE = 1 << 16
_LINES_READ_BYTES = 64 << 20
"""A line that is longer is not read to its end: weights are none, and what has one is taken for a pickle."""
_LARGEST_FILE_BYTES = 1 << 40
"""Beyond what a system's files can have, it refuses to put a file to a place."""
_LENGTH_BYTES = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPERATIONS = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}


class _NotOneError(Exception):
    """What follows is no operation, or it misses what it takes."""


class _EndsError(Exception):
    """The content ends within an operation."""


class _EndlessError(Exception):
    """An operation takes a line that is too long to be read."""


def is_pickle(file: BinaryIO) -> bool:
    """Whether what follows in the file is a pickle, or the begin of one; the file is put back to its begin."""
    file.seek(0)
    head = file.read(2)
    marked = len(head) == 2 and head[0] == _FIRST_OPERATION and head[1] <= _LAST_PROTOCOL
    file.seek(0)
    try:
        return _follow(file, marked)
    finally:
        file.seek(0)


def _follow(file: BinaryIO, marked: bool) -> bool:
    stack, imported = _Stack(), False
    for count in range(_ENOUGH_OPERATIONS):
        try:
            operation = _next(file, stack)
        except _NotOneError:
            return False
        except _EndlessError:
            return True
        except _EndsError:
            return marked and count >= _ENOUGH_OF_MARKED
        if operation in _ASKING and not marked:
            return False
        imported = imported or operation in _IMPORTS
        if imported and operation in _CALLS:
            return True
        if operation == "STOP":
            if imported or marked or _is_at_end(file):
                return True
            # Files may hold several, one after the other.
            stack = _Stack()
    return True


def _is_at_end(file: BinaryIO) -> bool:
    place = file.tell()
    rest = file.read(_LONGEST_LINE)
    file.seek(place)
    return not rest.strip()


def _next(file: BinaryIO, stack: _Stack) -> str:
    code = file.read(1)
    if not code:
        raise _EndsError
    operation = _OPERATIONS.get(code)
    if operation is None:
        raise _NotOneError
    _skip_argument(file, operation)
    stack.take(operation)
    return operation.name


def _skip_argument(file: BinaryIO, operation: pickletools.OpcodeInfo) -> None:
    argument = operation.arg
    if argument is None:
        return
    if argument.n == pickletools.UP_TO_NEWLINE:
        # Names of a module and of what is in it are on two lines.
        for _ in range(2 if operation.name in ("GLOBAL", "INST") else 1):
            _check_line(operation.name, _line(file))
        return
    length = argument.n if argument.n >= 0 else int.from_bytes(_read(file, _LENGTH_BYTES[argument.n]), "little")
    _skip(file, length)


def _read(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise _EndsError
    return content


def _skip(file: BinaryIO, count: int) -> None:
    """Past bytes that have to be there: the last of them is read, as a file may be put past its end."""
    if count > 0:
        if count > _LARGEST_FILE_BYTES:
            raise _EndsError
        file.seek(count - 1, 1)
        _read(file, 1)


def _line(file: BinaryIO) -> bytes | None:
    """Without its end; None of one that is too long to look at."""
    line = file.readline(_LONGEST_LINE)
    if line.endswith(b"\n"):
        return line[:-1]
    end = file.tell() + _LINES_READ_BYTES
    while line and not line.endswith(b"\n"):
        if file.tell() > end:
            raise _EndlessError
        line = file.readline(_LONGEST_LINE)
    if not line:
        raise _EndsError
    return None


def _check_line(operation: str, line: bytes | None) -> None:
    """As an unpickler would take it for a number or a text."""
    if line is None:
        return
    try:
        if operation == "INT":
            int(line)
        elif operation == "LONG":
            int(line.removesuffix(b"L"))
        elif operation == "FLOAT":
            float(line)
        elif operation in ("GET", "PUT"):
            int(line)
        elif operation == "STRING" and not (len(line) > 1 and line[:1] == line[-1:] and line[:1] in b"'\""):
            raise _NotOneError
    except ValueError:
        raise _NotOneError from None


@dataclass
class _Stack:
    """How many values lie above each mark: `depths` has one number for the bottom and one for each mark."""

    depths: list[int] = field(default_factory=lambda: [0])

    def take(self, operation: pickletools.OpcodeInfo) -> None:
        """What an operation takes, and what it leaves. Raises _NotOneError if that isn't there."""
        if operation.name == "MARK":
            self.depths.append(0)
            return
        if operation.name == "POP" and not self.depths[-1]:
            self._drop_mark()
            return
        needed = operation.stack_before
        if pickletools.markobject in needed:
            at = needed.index(pickletools.markobject)
            above = sum(kind is not pickletools.stackslice for kind in needed[at + 1 :])
            if self._drop_mark() < above:
                raise _NotOneError
            needed = needed[:at]
        if self.depths[-1] < len(needed):
            raise _NotOneError
        self.depths[-1] += len(operation.stack_after) - len(needed)

    def _drop_mark(self) -> int:
        if len(self.depths) == 1:
            raise _NotOneError
        return self.depths.pop()
