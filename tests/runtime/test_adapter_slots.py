"""Which adapter gives way to which, without any model."""

from __future__ import annotations

import random

import pytest

from mlspec.runners.mlx_lm.runtime_slots import Slots


class Loading:
    """What was loaded, by slot; `broken` can't be."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.held: dict[int, str] = {}
        self.count = 0

    def enter(self, name: str) -> int:
        return self.slots.enter(name, lambda slot: self._load(name, slot))

    def _load(self, name: str, slot: int) -> None:
        self.held.pop(slot, None)
        if name == "broken":
            raise OSError(name)
        self.held[slot] = name
        self.count += 1


def test_the_one_that_was_used_longest_ago_gives_way() -> None:
    loading = Loading(Slots(2, mixing=True))
    for name in ("a", "b", "a", "c", "a", "b"):
        slot = loading.enter(name)
        assert loading.held[slot] == name
        loading.slots.leave(name)
    assert loading.count == 4
    assert set(loading.held.values()) == {"a", "b"}


def test_an_adapter_with_rows_keeps_its_slot() -> None:
    loading = Loading(Slots(2, mixing=True))
    for name in ("a", "a", "b", "base"):
        loading.enter(name)
    assert not loading.slots.admits("c")
    with pytest.raises(RuntimeError, match="'c'"):
        loading.enter("c")
    loading.slots.leave("a")
    assert not loading.slots.admits("c")
    loading.slots.leave("a")
    assert loading.slots.admits("c")
    assert loading.enter("c") == 1
    assert loading.held == {1: "c", 2: "b"}


def test_a_slot_whose_adapter_could_not_be_loaded_is_free() -> None:
    loading = Loading(Slots(1, mixing=True))
    loading.enter("a")
    loading.slots.leave("a")
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            loading.enter("broken")
        assert loading.held == {}
        assert loading.slots.admits("a")
    assert loading.enter("a") == 1
    assert loading.count == 2


def test_without_mixing_one_adapter_at_a_time() -> None:
    loading = Loading(Slots(2, mixing=False))
    for name in ("a", "base", "b"):
        assert all(loading.slots.admits(other) for other in ("a", "b", "base"))
        loading.enter(name)
        loading.enter(name)
        assert [other for other in ("a", "b", "base") if loading.slots.admits(other)] == [name]
        loading.slots.leave(name)
        assert [other for other in ("a", "b", "base") if loading.slots.admits(other)] == [name]
        loading.slots.leave_all()


def test_without_adapters_there_is_the_base() -> None:
    slots = Slots(0, mixing=True)
    assert slots.admits("base")
    assert not slots.admits("a")
    assert slots.enter("base", lambda slot: pytest.fail("nothing to load")) == 0


@pytest.mark.parametrize("mixing", [True, False])
def test_whatever_comes_and_goes_each_row_finds_its_adapter(mixing: bool) -> None:
    chance = random.Random(7)
    loading, rows = Loading(Slots(3, mixing=mixing)), list[tuple[str, int]]()
    for _ in range(3000):
        name = chance.choice(["a", "b", "c", "d", "e", "base"])
        if rows and chance.random() < 0.5:
            loading.slots.leave(rows.pop(chance.randrange(len(rows)))[0])
        elif loading.slots.admits(name):
            rows.append((name, loading.enter(name)))
        else:
            assert rows
        assert all(slot == 0 if name == "base" else loading.held[slot] == name for name, slot in rows)
        assert mixing or len({name for name, _ in rows}) <= 1
    assert loading.count > 100
