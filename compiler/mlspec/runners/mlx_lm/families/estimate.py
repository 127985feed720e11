"""What can be said of a model of an unknown family: by the names and shapes that most have, and never too little."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlspec.runners.mlx_lm.architecture import Layers
from mlspec.runners.mlx_lm.families.caches import merged
from mlspec.runners.mlx_lm.families.config import Config, UnreadableConfigError
from mlspec.runners.mlx_lm.tensor_table import Row, size

_KEYS = re.compile(r"\.(k_proj|key_proj|wk|key)\.weight$")
_VALUES = re.compile(r"\.(v_proj|value_proj|wv|value)\.weight$")
_JOINED = re.compile(r"\.(qkv_proj|query_key_value|Wqkv|wqkv|c_attn|W_pack|att_proj|in_proj_qkv)\.weight$")
_UNFOLDED = re.compile(r"\.kv_b_proj\.weight$")

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model", "model_dim", "hidden_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("n_kv_heads", "num_kv_heads"),
    "num_experts_per_tok": ("num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts"),
    "head_dim": ("kv_channels",),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "ffn_dim"),
    "vocab_size": ("num_vocab",),
}


def some_config(config: Mapping[str, Any]) -> Config:
    """What a configuration says that can be true, by the names that families use; the language model's if it sees."""
    text = config.get("text_config")
    values = {**config, **text} if isinstance(text, dict) else config
    found = {key: _first(values, (key, *others)) for key, others in _ALIASES.items()}
    return Config({key: value for key, value in found.items() if value}, own_head_dim=True)


def estimated_layers(rows: tuple[Row, ...]) -> int:
    """As many as the name that most tensors begin with counts."""
    counts, last = Counter[str](), dict[str, int]()
    for row in rows:
        if row.layers is not None:
            start = row.name.partition("*")[0]
            counts[start] += row.count
            last[start] = max(last.get(start, 0), row.layers[-1][1])
    return last[counts.most_common(1)[0][0]] + 1 if counts else 0


def estimated_keeps(rows: tuple[Row, ...], config: Config) -> tuple[Layers, ...]:
    """Keys and values of all tokens wherever a layer has projections for them; no window is believed in."""
    keys = [row for row in rows if _KEYS.search(row.name)]
    values = {row.name: row for row in rows if _VALUES.search(row.name)}
    if keys and values:
        width = max(_width(row) for row in values.values())
        return merged(_of_width(row, _width(row), width, config) for row in keys)
    joined = [row for row in rows if _JOINED.search(row.name)]
    if joined:
        return merged(_of_joined(row, config) for row in joined)
    unfolded = [row for row in rows if _UNFOLDED.search(row.name)]
    return merged(_of_width(row, _width(row), _width(row), config) for row in unfolded)


def _of_joined(row: Row, config: Config) -> Layers:
    """Queries, keys and values in one: by the heads that the configuration tells, else a third each."""
    heads, kv_heads = (_known(config, key) for key in ("num_attention_heads", "num_key_value_heads"))
    third = _width(row) // 3
    if heads and kv_heads and _width(row) % (heads + 2 * kv_heads) == 0:
        third = _width(row) // (heads + 2 * kv_heads) * kv_heads
    return _of_width(row, third, third, config)


def _of_width(row: Row, keys: int, values: int, config: Config) -> Layers:
    heads = _known(config, "num_key_value_heads") or _known(config, "num_attention_heads") or 1
    heads = heads if keys % heads == 0 and values % heads == 0 else 1
    return Layers(size(row.layers) if row.layers else row.count, "full", heads, keys // heads, values // heads)


def _width(row: Row) -> int:
    """What comes out: of packed weights, too, it is the dimension before the last."""
    return row.shape[-2] if len(row.shape) >= 2 else 0


def _known(config: Config, key: str) -> int:
    return config.optional(key) or 0


def _first(values: Mapping[str, Any], keys: tuple[str, ...]) -> int:
    for key in keys:
        try:
            if found := Config(values).optional(key):
                return found
        except UnreadableConfigError:
            continue
    return 0
