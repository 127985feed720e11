"""Which adapters are in memory, and whose rows are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

BASE = "base"


class Slots:
    """Numbers from 1 to `count`, each one adapter's while it is in memory; the base has 0 and is always there. The
    adapter that was used longest ago gives way to another, if no row uses it. Without `mixing` all rows that are there
    at once have the same adapter.
    """

    def __init__(self, count: int, *, mixing: bool) -> None:
        self._slots: dict[str, int] = {}  # the one that was used longest ago first
        self._free = list(range(count, 0, -1))
        self._rows = Counter[str]()
        self.mixing = mixing

    def admits(self, name: str) -> bool:
        """Whether a row of this adapter may join those that are there."""
        if not self.mixing and self._rows.keys() - {name}:
            return False
        return name == BASE or name in self._slots or bool(self._free) or self._idle() is not None

    def enter(self, name: str, load: Callable[[int], None]) -> int:
        """One row more of this adapter; the answer is its slot. One that isn't in memory is put there by `load`, which
        may raise. Raises RuntimeError if `admits` doesn't.
        """
        if not self.admits(name):
            raise RuntimeError(f"the rows that are there don't admit adapter '{name}'")
        slot = 0 if name == BASE else self._slot(name, load)
        self._rows[name] += 1
        return slot

    def leave(self, name: str) -> None:
        """One row less."""
        self._rows[name] -= 1
        if not self._rows[name]:
            del self._rows[name]

    def leave_all(self) -> None:
        """No row is there any more."""
        self._rows.clear()

    def put(self, name: str, load: Callable[[int], None]) -> None:
        """Have this adapter in memory, without a row."""
        self.enter(name, load)
        self.leave(name)

    def _slot(self, name: str, load: Callable[[int], None]) -> int:
        slot = self._slots.pop(name, None)
        if slot is None:
            slot = self._taken()
            try:
                load(slot)
            # Whatever it was goes on; the slot would stay taken.
            except BaseException:
                self._free.append(slot)
                raise
        self._slots[name] = slot
        return slot

    def _taken(self) -> int:
        if self._free:
            return self._free.pop()
        idle = self._idle()
        assert idle is not None  # noqa: S101 - `admits`
        return self._slots.pop(idle)

    def _idle(self) -> str | None:
        return next((name for name in self._slots if name not in self._rows), None)
