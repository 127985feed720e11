"""What `torch.save` wrote, told by its pickle's opcodes alone: nothing of it is ever executed or imported.

The opcodes and names that are known are those of a dictionary of tensors, which is less than what `torch.load` takes
with `weights_only=True` (torch/_weights_only_unpickler.py); everything else is refused by its name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

from mlspec.model_files import Tensor
from mlspec.runners.torch.pickled_names import OTHER, Name, NotTensorsError, known, made, storage_of

_MARK = object()


def tensors_of(pickle: bytes) -> dict[str, Tensor]:
    """The tensors of a state dict, by name.

    Raises:
        NotTensorsError: it is no state dict.
    """
    reader = _Reader()
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            reader.take(opcode.name, argument)
    except NotTensorsError:
        raise
    # genops raises ValueError for what is cut off; a stack that is too short or holds other things, the rest.
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
        raise NotTensorsError("its pickle is broken") from problem
    return _state_dict(reader.result)


def _state_dict(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, dict):
        kind = "a single tensor" if isinstance(found, Tensor) else "no dictionary"
        raise NotTensorsError(f"it holds {kind}, and no state dict")
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise NotTensorsError("it holds a dictionary of other things than tensors", keys=tuple(map(str, found)))
    return found


class _Reader:
    """Follows the opcodes with a stack of plain values, as a reader of the file would."""

    def __init__(self) -> None:
        self.result: Any = None
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def take(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self._stack.append(_LITERALS[opcode](argument))
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise NotTensorsError(f"its pickle has the opcode {opcode}, which no state dict has", refused=opcode)

    def _pop(self) -> Any:
        return self._stack.pop()

    def _to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items

    def stop(self, _: Any) -> None:
        self.result = self._pop()

    def put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def tuple_of_mark(self, _: Any) -> None:
        items = self._to_mark()
        self._stack.append(tuple(items))

    def append(self, _: Any) -> None:
        self._pop()
        self._stack[-1].append(OTHER)

    def appends(self, _: Any) -> None:
        self._to_mark()
        self._stack[-1].append(OTHER)

    def set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set({key: value} if isinstance(key, str | int) else {})

    def set_items(self, _: Any) -> None:
        items = self._to_mark()
        self._set({k: v for k, v in zip(items[::2], items[1::2], strict=True) if isinstance(k, str | int)})

    def _set(self, items: dict[str | int, Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise TypeError("no dictionary")
        self._stack[-1].update({str(key): value for key, value in items.items()})

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(known(Name(module, name)))

    def stack_name(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if isinstance(name, str) and isinstance(module, str):
            known(Name(module, name))
        raise NotTensorsError("it was saved by another pickle protocol than torch's own", refused="STACK_GLOBAL")

    def reduce(self, _: Any) -> None:
        arguments, called = self._pop(), self._pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise TypeError("no call")
        self._stack.append(made(called, arguments))

    def build(self, _: Any) -> None:
        """The state of an object: of an ordered dictionary its `_metadata`."""
        self._pop()

    def persistent(self, _: Any) -> None:
        kind, storage, *_rest = self._pop()
        if kind != "storage" or not isinstance(storage, Name):
            raise ValueError("no storage")
        self._stack.append(storage_of(storage))


def _tuple_of(count: int) -> Callable[[_Reader, Any], None]:
    def step(reader: _Reader, _: Any) -> None:
        stack = reader._stack
        if len(stack) < count:
            raise IndexError("too short a stack")
        items = tuple(stack[-count:])
        del stack[-count:]
        stack.append(items)

    return step


_LITERALS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), lambda a: a
    ),
    "SHORT_BINSTRING": str,
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_SET": lambda _: OTHER,
    "EMPTY_TUPLE": lambda _: (),
    "MARK": lambda _: _MARK,
}
_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "PROTO": lambda reader, _: None,
    "STOP": _Reader.stop,
    "BINPUT": _Reader.put,
    "LONG_BINPUT": _Reader.put,
    "BINGET": _Reader.get,
    "LONG_BINGET": _Reader.get,
    "TUPLE": _Reader.tuple_of_mark,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _Reader.append,
    "APPENDS": _Reader.appends,
    "SETITEM": _Reader.set_item,
    "SETITEMS": _Reader.set_items,
    "GLOBAL": _Reader.name,
    "STACK_GLOBAL": _Reader.stack_name,
    "REDUCE": _Reader.reduce,
    "BUILD": _Reader.build,
    "BINPERSID": _Reader.persistent,
}
