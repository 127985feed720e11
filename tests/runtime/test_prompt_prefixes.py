"""The prompt cache by itself: what it finds, what it drops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

SYSTEM = list(range(100, 140))


def layers(tokens: Sequence[int]) -> list[Any]:
    """One layer of a real cache whose keys are the tokens' numbers."""
    import mlx.core as mx
    from mlx_lm.models.cache import KVCache

    layer: Any = KVCache()  # type: ignore[no-untyped-call]
    rows = mx.broadcast_to(mx.array(list(tokens), dtype=mx.float32)[None, None, :, None], (1, 2, len(tokens), 4))
    layer.state = (rows, rows, len(tokens))
    return [layer]


def kept(layer: Any) -> list[int]:
    keys, _ = layer.keys_and_values()
    return [int(token) for token in keys[0, 0, :, 0].tolist()]


def entry_bytes(tokens: int) -> int:
    return tokens * 2 * 2 * 4 * 4


def make(max_bytes: int = 1 << 20) -> Any:
    from mlspec.runners.mlx_lm.runtime_prefixes import Prefixes

    return Prefixes(max_bytes)


def test_the_longest_beginning_is_found_and_cut_to_size() -> None:
    prefixes = make()
    for end in ([1, 2, 3], [1, 9], [4]):
        prefixes.keep("base", SYSTEM + end, layers(SYSTEM + end))
    found = prefixes.find("base", [*SYSTEM, 1, 2, 7, 8])
    assert found.tokens == [*SYSTEM, 1, 2]
    assert kept(found.layers[0]) == [*SYSTEM, 1, 2]
    # What is kept is not what was given out: the same is found again after the copy has grown.
    found.layers[0].update_and_fetch(*(layers([5])[0].keys_and_values()))
    assert kept(prefixes.find("base", [*SYSTEM, 1, 2, 3, 4]).layers[0]) == [*SYSTEM, 1, 2, 3]


def test_the_last_token_is_always_computed() -> None:
    prefixes = make()
    prefixes.keep("base", SYSTEM, layers(SYSTEM))
    assert prefixes.find("base", SYSTEM).tokens == SYSTEM[:-1]


def test_adapters_are_kept_apart_and_little_is_not_worth_it() -> None:
    prefixes = make()
    prefixes.keep("base", SYSTEM, layers(SYSTEM))
    assert prefixes.find("support", [*SYSTEM, 1]) is None
    assert prefixes.find("base", [*SYSTEM[:15], 1, 2]) is None
    assert prefixes.find("base", [*SYSTEM[:16], 1, 2]).tokens == SYSTEM[:16]
    assert prefixes.find("base", [1]) is None


def test_what_is_continued_is_dropped() -> None:
    prefixes = make()
    prefixes.keep("base", SYSTEM, layers(SYSTEM))
    prefixes.keep("support", SYSTEM, layers(SYSTEM))
    prefixes.keep("base", [*SYSTEM, 1, 2], layers([*SYSTEM, 1, 2]))
    assert prefixes.size_bytes == entry_bytes(40) + entry_bytes(42)


def test_it_stays_within_its_bytes_and_the_longest_unused_goes_first() -> None:
    prefixes = make(2 * entry_bytes(41))
    one, other, third = ([*SYSTEM[:-1], n, n] for n in (1, 2, 3))
    prefixes.keep("base", one, layers(one))
    prefixes.keep("base", other, layers(other))
    prefixes.find("base", [*one, 9])
    prefixes.keep("base", third, layers(third))
    assert prefixes.size_bytes == 2 * entry_bytes(41)
    assert prefixes.find("base", [*one, 9]).tokens == one
    assert len(prefixes.find("base", [*other, 9]).tokens) == 39
    # One that is too large by itself pushes nothing out.
    prefixes.keep("base", [*range(90)], layers([*range(90)]))
    assert prefixes.size_bytes == 2 * entry_bytes(41)
    prefixes.clear()
    assert prefixes.size_bytes == 0
    assert prefixes.find("base", [*one, 9]) is None


def test_a_cache_that_cannot_be_cut_back_is_used_whole_or_not() -> None:
    import mlx.core as mx
    from mlx_lm.models.cache import ArraysCache

    def state() -> list[Any]:
        cache = ArraysCache(1)
        cache[0] = mx.ones((1, 3, 4))
        return [cache]

    prefixes = make()
    prefixes.keep("base", SYSTEM, state())
    assert prefixes.find("base", [*SYSTEM, 1]).tokens == SYSTEM
    assert prefixes.find("base", [*SYSTEM[:-1], 1, 2]) is None
    assert prefixes.find("base", SYSTEM) is None
    prefixes.keep("base", [*SYSTEM, 1], state())
    assert prefixes.find("base", [*SYSTEM, 2]).tokens == SYSTEM
