"""Families with latent attention."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.runners.mlx_lm.families import caches
from mlspec.runners.mlx_lm.families.common import (
    BIAS,
    DEEPSEEK,
    DEEPSEEK_LOADS,
    FUSED_ROWS,
    GATE,
    MOE_TOPK,
    NUM_LAYERS,
    STACKED,
    TIED,
    sizes,
)
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.families.tensors import absorbed, dequantized, renamed, unpacked, untied

_GLM_LITE = DEEPSEEK | sizes(47, 2048, 20, 20) | {"qk_nope_head_dim": 192, "v_head_dim": 256, "num_experts_per_tok": 4}
_YOUTU = DEEPSEEK | sizes(32, 2048, 16, 16) | TIED

LATENT: Mapping[str, Family] = {
    "deepseek_v2": Family(caches.unfolded, (STACKED,), defaults=DEEPSEEK, fixed=GATE),
    "minicpm3": Family(caches.unfolded_even),
    "youtu_llm": Family(caches.unfolded, (untied,), defaults=_YOUTU),
    "deepseek_v3": Family(caches.latent, DEEPSEEK_LOADS, defaults=DEEPSEEK, fixed=GATE, own_type=BIAS),
    "deepseek_v32": Family(
        caches.latent_indexed,
        DEEPSEEK_LOADS,
        defaults=DEEPSEEK | {"index_head_dim": 128},
        fixed=GATE,
        own_type=BIAS,
    ),
    "glm_moe_dsa": Family(caches.latent_indexed, DEEPSEEK_LOADS, fixed=GATE, own_type=BIAS),
    "glm4_moe_lite": Family(caches.latent, DEEPSEEK_LOADS, defaults=_GLM_LITE, fixed=GATE, own_type=BIAS),
    "mistral4": Family(caches.latent, (unpacked, dequantized, *FUSED_ROWS, STACKED, absorbed)),
    "longcat_flash": Family(
        caches.latent_twice,
        (STACKED, absorbed),
        {**NUM_LAYERS, **MOE_TOPK},
        eight_bits=("classifier",),
        own_type=BIAS,
    ),
    "longcat_flash_ngram": Family(
        caches.latent_ngram,
        (STACKED, absorbed, renamed((r"^model\.embed_tokens\.", "model.ngram_embeddings.word_embeddings."))),
        {**NUM_LAYERS, **MOE_TOPK},
        {"emb_neighbor_num": 4},
        eight_bits=("classifier",),
        own_type=BIAS,
    ),
}
