"""Where a configuration says other sizes than the tensors have: mlx_lm would refuse the model when the service starts.

Only what is sure is compared: the embedding in all families that have one by the usual name; key heads and the width of
a layer in those that keep keys and values of each head.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlspec.characters import quoted
from mlspec.runners.mlx_lm.architecture import Layers
from mlspec.runners.mlx_lm.families import Shape, family_of
from mlspec.runners.mlx_lm.families.caches import every_head, merged, multi_query
from mlspec.runners.mlx_lm.families.config import LARGEST, Config, UnreadableConfigError
from mlspec.runners.mlx_lm.families.dense import DENSE
from mlspec.runners.mlx_lm.families.experts import EXPERTS
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.packing import PACKED, Packing
from mlspec.runners.mlx_lm.tensor_table import Row

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in)\.weight$")
_KEYS = re.compile(r"\.(self_attn|attention|attn)\.k_proj\.weight$")
_WIDTH = re.compile(r"\.mlp\.(up|gate)_proj\.weight$")
_OWN_WIDTHS = {"afm7", "nemotron-nas"}
"""Families that say the width of a layer by another key."""


def contradiction(config: Mapping[str, Any], shape: Shape) -> str | None:
    """The first size of a known family's configuration that its tensors contradict; None if there is none."""
    names, read = family_of(config)
    if not names:
        return None
    # Bytes are packed weights of a kind of their own (bitnet), whose shapes say nothing.
    unpacked = Packing.of(config).unpacked(shape.loaded)
    rows = [row for row in unpacked if len(row.shape) == 2 and row.dtype != "U8"]
    embeddings = [row for row in rows if row.layers is None and _EMBEDDING.search(row.name)]
    # Words that no scales belong to stay as they lie in the file: how many columns they hold isn't known.
    known = [row for row in embeddings if row.dtype not in PACKED or row not in shape.loaded]
    found = [*_differing(read, "hidden_size", known, -1, "columns"), *_differing(read, "vocab_size", embeddings)]
    family = {**DENSE, **EXPERTS}.get(names[-1])
    if family is not None:
        found += _of_keys(family, read, [row for row in rows if _KEYS.search(row.name)])
        found += _of_width(read, rows, names[-1])
    return next(iter(found), None)


def _of_width(read: Config, rows: Sequence[Row], name: str) -> Iterator[str]:
    """In some families layers differ in width: a size that no layer has is none of theirs."""
    wide, value = [row for row in rows if _WIDTH.search(row.name)], read.value("intermediate_size")
    if name in _OWN_WIDTHS or isinstance(value, list):
        return
    if type(value) is not int or value not in [row.shape[0] for row in wide]:
        yield from _differing(read, "intermediate_size", wide)


def _differing(read: Config, key: str, rows: Sequence[Row], axis: int = 0, which: str = "rows") -> Iterator[str]:
    value = read.value(key)
    for row in rows:
        if value is not None and (type(value) is not int or value != row.shape[axis]):
            yield f"config.json says {_said(read, key)}, but {_named(row)} has {row.shape[axis]} {which}"


def _of_keys(family: Family, read: Config, rows: Sequence[Row]) -> Iterator[str]:
    """Rows of the keys' projections that are none of the family's heads times their size."""
    value = read.value("num_key_value_heads")
    heeded = family.keeps not in (every_head, multi_query)
    for row in rows:
        if heeded and value is not None and not (type(value) is int and 1 <= value <= LARGEST):
            yield f"config.json says {_said(read, 'num_key_value_heads')}, but {_named(row)} has {row.shape[0]} rows"
            continue
        keeps = [group for group in _keeps(family, read) if group.kv_heads]
        if keeps and row.shape[0] not in [group.kv_heads * group.key_dim for group in keeps]:
            said = f"{_said(read, 'num_key_value_heads')} ({_heads(keeps[0])})"
            yield f"config.json says {said}, but {_named(row)} has {row.shape[0]} rows"


def _heads(group: Layers) -> str:
    return f"{group.kv_heads} key head{'s' if group.kv_heads > 1 else ''} of {group.key_dim}"


def _keeps(family: Family, read: Config) -> tuple[Layers, ...]:
    try:
        return merged(family.keeps(read))
    except UnreadableConfigError:
        return ()


def _said(read: Config, key: str) -> str:
    """`hidden_size 1`, or `no num_key_value_heads`."""
    name, value = read.names.get(key, key), read.value(key)
    if value is None:
        return f"no {name}"
    return f"{name} {quoted(value) if isinstance(value, str) else quoted(value)[1:-1]}"


def _named(row: Row) -> str:
    """The name of the row's first tensor."""
    return row.name if row.layers is None else row.name.replace("*", str(row.layers[0][0]), 1)
