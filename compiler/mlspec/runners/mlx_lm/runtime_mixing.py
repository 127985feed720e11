"""Whether a model computes rows of different adapters as it computes each alone: tried as it is loaded.

What a family does with its rows inside is its own: a layer that is called with tokens in another order would give a row
its neighbour's adapter, without a word. Random tensors in one slot show it, whatever the adapters are.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from .runtime_adapter_files import LORA_A, LORA_B
from .runtime_adapter_rows import BASE_PLACE, AdaptedModel, Place
from .runtime_stacked import StackedAdapters

PROMPT = (5, 3, 1, 2, 4)
TRIED = Place(1, 1.0)
MIXED = (BASE_PLACE, TRIED, BASE_PLACE)
"""As the rows are; the others, too, are tried with as many rows."""
STRENGTH = 0.5
"""Of the products that are added, about, beside what a layer has of itself."""
TOLERANCE = 0.25
"""Of the difference that the adapter makes: elements of 16 bits differ by some hundredths, a wrong row by all of it."""


def why_not_mixed(model: AdaptedModel, stacked: StackedAdapters) -> str:
    """What speaks against rows of different adapters at once; nothing if the text is empty. Slot 1 is used, and empty
    afterwards.
    """
    if not stacked.can_mix:
        return "layers of experts compute one adapter at a time"
    stacked.put(TRIED.slot, TRIED.scale, _random(stacked))
    try:
        return _difference(model)
    # A family that gives a layer its rows in another form fails in its own way.
    except ValueError as problem:
        return f"this model's layers don't take them ({problem})"
    finally:
        stacked.put(TRIED.slot, 0.0, {})


def _difference(model: AdaptedModel) -> str:
    base, adapted, mixed = (_logits(model, places) for places in ((BASE_PLACE,) * 3, (TRIED,) * 3, MIXED))
    effect = _distance(base, adapted)
    expected = mx.stack([(adapted if place is TRIED else base)[row] for row, place in enumerate(MIXED)])
    missed = _distance(mixed, expected)
    return (
        ""
        if missed <= TOLERANCE * effect
        else f"answers would differ by {missed:.3g}, the adapter's effect {effect:.3g}"
    )


def _logits(model: AdaptedModel, places: tuple[Place, ...]) -> mx.array:
    """After a prompt that is read at once, and after one token more."""
    caches = [model.make_cache(place) for place in places]
    merged = [parts[0].merge(list(parts)) for parts in zip(*caches, strict=True)]
    read = model(mx.array([PROMPT] * len(places)), cache=merged)
    answered = model(mx.array([PROMPT[:1]] * len(places)), cache=merged)
    logits = mx.concatenate([read, answered], axis=1).astype(mx.float32)
    mx.eval(logits)
    return logits


def _distance(one: mx.array, other: mx.array) -> float:
    return float(mx.abs(one - other).max())


def _random(stacked: StackedAdapters) -> dict[str, dict[str, mx.array]]:
    """Tensors for one slot, the same at every start."""
    key: Any = mx.random.key(0)
    given = {}
    for path, shapes in stacked.shapes().items():
        key, *keys = mx.random.split(key, 3)
        a, b = (mx.random.normal(shape, key=k) for shape, k in zip(shapes, keys, strict=True))
        inputs, rank = shapes[0]
        given[path] = {LORA_A: a * inputs**-0.5, LORA_B: b * (STRENGTH * rank**-0.5)}
    return given
