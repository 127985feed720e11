"""Families that see, hear, or are read as such: a language model in a larger one."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.runners.mlx_lm.families import caches
from mlspec.runners.mlx_lm.families.common import BIAS, STACKED, sizes
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.families.special import blocks_kept
from mlspec.runners.mlx_lm.families.tensors import Split, nested, renamed, turned, untied

_MINIMAX_M3 = {**sizes(60, 6144, 64, 4, 128), "num_experts_per_tok": 4}
_FUSED_LAST = (
    Split(r"experts\.gate_up_proj$", ("switch_mlp.gate_proj.weight", "switch_mlp.up_proj.weight"), -1, turned=True),
    turned(r"experts\.down_proj$"),
    renamed((r"experts\.down_proj$", "switch_mlp.down_proj.weight")),
)

SEEING: Mapping[str, Family] = {
    "gemma3": Family(inside={"": "gemma3_text"}, defaults={"num_attention_heads": 8, "num_key_value_heads": 4}),
    "gemma3n": Family(caches.shared_windows, own_head_dim=True),
    "gemma4": Family(loads=(nested,), inside={"": "gemma4_text"}),
    "mistral3": Family(
        loads=(nested,),
        inside={"ministral3": "ministral3", "mistral4": "mistral4", "": "llama"},
        defaults={"tie_word_embeddings": False},
    ),
    "pixtral": Family(inside={"": "llama"}, defaults={"tie_word_embeddings": False, "num_attention_heads": 32}),
    "qwen2_vl": Family(loads=(nested,), inside={"": "qwen2"}),
    "qwen3_vl": Family(loads=(nested,), inside={"": "qwen3"}),
    "qwen3_vl_moe": Family(loads=(nested, *_FUSED_LAST), inside={"": "qwen3_moe"}),
    "qwen3_5": Family(loads=(nested,), inside={"": "qwen3_5_text"}),
    "qwen3_5_moe": Family(loads=(nested,), inside={"": "qwen3_5_text"}),
    "kimi_vl": Family(inside={"": "deepseek_v3"}),
    "kimi_k25": Family(inside={"": "deepseek_v3"}),
    "kimi_k3": Family(loads=(nested,), inside={"": "kimi_k3_text"}),
    "lfm2-vl": Family(inside={"": "lfm2"}),
    "llama4": Family(
        caches.chunks,
        (
            Split(r"experts\.gate_up_proj$", ("experts.gate_proj.weight", "experts.up_proj.weight"), -1, turned=True),
            turned(r"experts\.down_proj$"),
            renamed((r"experts\.down_proj$", "experts.down_proj.weight")),
        ),
        own_head_dim=True,
    ),
    "llama4_text": Family(own_head_dim=True, defaults={"tie_word_embeddings": False}),
    "minimax_m3_vl": Family(
        caches.indexed,
        (
            blocks_kept,
            untied,
            renamed((r"block_sparse_moe\.(gate|up|down)_proj\.", r"mlp.\1_proj.")),
            Split(r"gate_up_proj(?=\.)", ("gate_proj", "up_proj")),
            STACKED,
        ),
        defaults=_MINIMAX_M3,
        own_head_dim=True,
        eight_bits=("block_sparse_moe.gate",),
        own_type=BIAS,
    ),
}
