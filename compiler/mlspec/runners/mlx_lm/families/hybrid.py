"""Families with state spaces, linear attention or convolutions."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.runners.mlx_lm.families import states
from mlspec.runners.mlx_lm.families.common import (
    BAILING_GATE,
    BAILING_LOADS,
    BIAS,
    FUSED_ROWS,
    GATE,
    GRANITE_LOADS,
    STACKED,
    TIED,
    sizes,
)
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.families.special import granite_dense
from mlspec.runners.mlx_lm.families.tensors import absorbed, renamed, stacked, unpacked, untied

_BAILING_V3 = {
    **sizes(24, 1536, 16, 16, 128),
    "layer_group_size": 4,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "short_conv_kernel_size": 4,
    "num_experts_per_tok": 8,
}
_QWEN35 = {
    **sizes(32, 4096, 32, 8),
    "linear_num_value_heads": 64,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 192,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
}
_FALCON = {
    **sizes(36, 1024, 8, 2, 64),
    **TIED,
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_ssm": 1536,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_n_heads": 24,
}
_PLAMO2 = {
    **sizes(32, 4096, 32, 4),
    **TIED,
    "hidden_size_per_head": 128,
    "mamba_d_state": 64,
    "mamba_d_conv": 4,
    "mamba_num_heads": 64,
    "mamba_step": 2,
    "mamba_enabled": True,
}
_KIMI_K3 = {**sizes(93, 7168, 96, 96), "num_experts_per_tok": 16}
_KIMI = {"num_experts_per_tok": "num_experts_per_token"}
_KIMI_LINEAR_LOADS = (
    untied,
    renamed((r"\.block_sparse_moe\.gate\.e_score", ".mlp.e_score"), (r"\.block_sparse_moe\.", ".mlp.")),
    renamed((r"\.([qkv])_conv1d\.weight$", r".\1_conv.conv.weight")),
    STACKED,
    absorbed,
)
_KIMI_TYPES = (*BIAS, "A_log", "dt_bias")

HYBRID: Mapping[str, Family] = {
    "mamba": Family(states.mamba, defaults=TIED),
    "mamba2": Family(states.mamba2),
    "jamba": Family(states.jamba, (untied, STACKED), defaults=TIED, eight_bits=("router",)),
    "falcon_h1": Family(states.falcon_h1, defaults=_FALCON, own_head_dim=True),
    "granitemoehybrid": Family(
        states.granite, (*GRANITE_LOADS, granite_dense), defaults=TIED, eight_bits=("router.layer",)
    ),
    "nemotron_h": Family(
        states.nemotron_h,
        (stacked("switch_mlp", down_proj="fc2", up_proj="fc1"),),
        own_head_dim=True,
        fixed=("mixer.gate",),
        own_type=(*BIAS, "A_log"),
    ),
    "lfm2": Family(states.short_convolutions),
    "lfm2_moe": Family(
        states.short_convolutions,
        (
            renamed(
                (r"\.w1\.weight$", ".gate_proj.weight"),
                (r"\.w2\.weight$", ".down_proj.weight"),
                (r"\.w3\.weight$", ".up_proj.weight"),
            ),
            STACKED,
        ),
        eight_bits=("feed_forward.gate",),
        own_type=("expert_bias",),
    ),
    "qwen3_next": Family(
        states.gated_delta,
        (untied, STACKED),
        defaults={"full_attention_interval": 4},
        own_head_dim=True,
        eight_bits=("mlp.gate", "shared_expert_gate"),
    ),
    "qwen3_5_text": Family(
        states.gated_delta,
        (untied, *FUSED_ROWS),
        defaults=_QWEN35,
        own_head_dim=True,
        eight_bits=("mlp.gate", "shared_expert_gate"),
        own_type=("A_log",),
    ),
    "kimi_linear": Family(
        states.kimi_delta, _KIMI_LINEAR_LOADS, _KIMI, {"num_experts_per_tok": 1}, eight_bits=GATE, own_type=_KIMI_TYPES
    ),
    "kimi_k3_text": Family(
        states.kimi_delta,
        (unpacked, *_KIMI_LINEAR_LOADS),
        _KIMI,
        _KIMI_K3,
        fixed=("res_proj",),
        eight_bits=GATE,
        own_type=_KIMI_TYPES,
    ),
    "recurrent_gemma": Family(states.recurrent_gemma),
    "plamo2": Family(states.plamo2, defaults=_PLAMO2),
    "rwkv7": Family(states.rwkv7, eight_bits=("embeddings",), tall_eight_bits=("lora.*",), fixed=("g_norm",)),
    "olmo_hybrid": Family(states.named_gated_delta, (untied,), own_head_dim=True),
    "baichuan_m1": Family(states.baichuan_m1),
    "bailing_moe_linear": Family(
        states.bailing_linear, BAILING_LOADS, own_head_dim=True, eight_bits=BAILING_GATE, own_type=("expert_bias",)
    ),
    "bailing_hybrid": Family(
        states.bailing_hybrid,
        (*BAILING_LOADS, absorbed),
        own_head_dim=True,
        fixed=("attention.embed_q", "attention.unembed_out"),
        eight_bits=BAILING_GATE,
        own_type=("expert_bias",),
    ),
    "bailing_moe_v3": Family(
        states.bailing_delta,
        (untied, STACKED, absorbed),
        defaults=_BAILING_V3,
        own_head_dim=True,
        fixed=(
            *GATE,
            "model.word_embeddings",
            "lm_head",
            "attention.q_a_proj",
            "attention.q_b_proj",
            "attention.kv_a_proj_with_mqa",
            "attention.embed_q",
            "attention.unembed_out",
            "attention.b_proj",
        ),
        fixed_beside=(("attention.q_proj", "attention.g_proj"), "attention.kv_a_proj_with_mqa"),
    ),
}
