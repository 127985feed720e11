"""Families with experts that keep keys and values of each head."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.runners.mlx_lm.families import caches
from mlspec.runners.mlx_lm.families.common import (
    BAILING_GATE,
    BAILING_LOADS,
    BIAS,
    GATE,
    GRANITE_LOADS,
    IN_PLACE,
    MOE_TOPK,
    STACKED,
    TIED,
    sizes,
)
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.families.special import dbrx, gpt_oss, hunyuan
from mlspec.runners.mlx_lm.families.tensors import Split, dequantized, renamed, unnested, untied, without

_OSS = {**sizes(36, 2880, 64, 8, 64), "num_experts_per_tok": 4, "sliding_window": 128, "sliding_window_pattern": 2}
_LAGUNA = {**sizes(40, 2048, 48, 8, 128), "sliding_window": 512, "num_experts_per_tok": 8}
_AFMOE = {**sizes(32, 2048, 32, 4, 64), "sliding_window": 2048, "num_experts_per_tok": 8}
_MIXTRAL = {**sizes(32, 4096, 32, 8), "num_experts_per_tok": 2}
_STEP_LOADS = (
    renamed(
        (r"\.moe\.(gate|up|down)_proj\.", r".mlp.switch_mlp.\1_proj."),
        (r"\.moe\.gate\.", ".mlp.gate.gate."),
        (r"\.moe\.router_bias", ".mlp.gate.router_bias"),
        (r"(?<!\.mlp)\.share_expert\.", ".mlp.share_expert."),
    ),
)

EXPERTS: Mapping[str, Family] = {
    "mixtral": Family(loads=(untied, STACKED), defaults=_MIXTRAL),
    "qwen2_moe": Family(loads=(STACKED,)),
    "qwen3_moe": Family(loads=(untied, STACKED), own_head_dim=True, eight_bits=GATE),
    "olmoe": Family(loads=(STACKED,), defaults=TIED, own_head_dim=True),
    "granitemoe": Family(
        loads=GRANITE_LOADS,
        defaults=TIED,
        eight_bits=("block_sparse_moe.router.layer", "self_attn.o_proj", "mlp.down_proj", "lm_head"),
    ),
    "phimoe": Family(loads=(STACKED,), defaults=_MIXTRAL),
    "phixtral": Family(
        caches.every_head,
        (renamed((r"\.moe\.mlp\.\*\.", ".moe.experts.*.")), STACKED),
        {"hidden_size": "model_dim", "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"},
        {**sizes(32, 2560, 32, 32), "num_experts_per_tok": 2},
    ),
    "gpt_oss": Family(caches.named_full, (gpt_oss,), defaults=_OSS, own_head_dim=True, eight_bits=("router",)),
    "dbrx": Family(
        loads=(dbrx,),
        names={"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
    ),
    "deepseek": Family(loads=(STACKED,), defaults=sizes(30, 4096, 32, 32), fixed=GATE),
    "glm4_moe": Family(loads=(STACKED,), own_head_dim=True, fixed=GATE, own_type=BIAS),
    "solar_open": Family(loads=(STACKED,), own_head_dim=True, fixed=GATE, own_type=BIAS),
    "dots1": Family(loads=(untied, IN_PLACE), own_head_dim=True, fixed=GATE),
    "minimax": Family(
        loads=(dequantized, STACKED), own_head_dim=True, eight_bits=("block_sparse_moe.gate",), own_type=BIAS
    ),
    "ernie4_5_moe": Family(
        loads=(without("e_score_correction_bias"), STACKED),
        names={"num_experts_per_tok": "moe_k"},
        defaults={"num_experts_per_tok": 1},
        own_head_dim=True,
    ),
    "exaone_moe": Family(
        caches.named_windows,
        (renamed((r"mlp\.e_score", "mlp.gate.e_score")), untied, STACKED),
        own_head_dim=True,
        fixed=GATE,
        own_type=BIAS,
    ),
    "hunyuan": Family(
        loads=(
            hunyuan,
            Split(r"gate_and_up_proj", ("up_proj", "gate_proj")),
            STACKED,
        ),
        names=MOE_TOPK,
    ),
    "laguna": Family(
        caches.named_windows,
        (
            unnested,
            untied,
            renamed((r"mlp\.gate\.weight$", "mlp.gate.proj.weight"), (r"experts\.e_score", "gate.e_score")),
            STACKED,
        ),
        defaults=_LAGUNA,
        own_head_dim=True,
        eight_bits=("mlp.gate.proj",),
        own_type=BIAS,
    ),
    "mellum": Family(caches.named_full, (untied, STACKED), own_head_dim=True, eight_bits=GATE),
    "mimo_v2_flash": Family(caches.swa_windows, (dequantized, STACKED), own_head_dim=True, fixed=GATE, own_type=BIAS),
    "step3p5": Family(
        caches.step_windows,
        _STEP_LOADS,
        {"num_key_value_heads": "num_attention_groups", "num_experts_per_tok": "moe_top_k"},
        {"sliding_window": 512, "num_experts_per_tok": 8},
        own_head_dim=True,
        eight_bits=("mlp.gate.gate",),
        own_type=("router_bias",),
    ),
    "afmoe": Family(
        caches.named_windows,
        (untied, IN_PLACE),
        defaults=_AFMOE,
        own_head_dim=True,
        eight_bits=("router.gate",),
        own_type=("expert_bias",),
    ),
    "Klear": Family(loads=(IN_PLACE,), eight_bits=GATE, own_type=("expert_bias",)),
    "bailing_moe": Family(loads=BAILING_LOADS, eight_bits=BAILING_GATE, own_type=("expert_bias",)),
}
