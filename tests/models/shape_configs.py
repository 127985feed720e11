"""Configurations of small models, each as the `config.json` of its family would be."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

VOCABULARY = 4096
CONTEXT = 8192

_COMMON: Config = {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "rope_theta": 10000.0}


def llama(layers: int, hidden: int, heads: int, kv_heads: int) -> Config:
    """Heads of 64, a width of three times the hidden size, tied embeddings."""
    return _COMMON | {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "intermediate_size": 3 * hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }


GROUPED = llama(8, 512, 8, 2)
MULTI_HEAD = llama(8, 512, 8, 8)
TINY = llama(6, 256, 4, 4)

GEMMA3 = _COMMON | {
    "model_type": "gemma3_text",
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "intermediate_size": 1536,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
    "vocab_size": 4 * VOCABULARY,
    "sliding_window": 256,
    "sliding_window_pattern": 6,
}

GPT_OSS = _COMMON | {
    "model_type": "gpt_oss",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "intermediate_size": 384,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "sliding_window": 128,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
}

DEEPSEEK_V3 = _COMMON | {
    "model_type": "deepseek_v3",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "moe_intermediate_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "n_shared_experts": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "kv_lora_rank": 256,
    "q_lora_rank": 256,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "routed_scaling_factor": 1.0,
    "norm_topk_prob": True,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
}

QWEN3_MOE = _COMMON | {
    "model_type": "qwen3_moe",
    "hidden_size": 512,
    "num_hidden_layers": 6,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 256,
    "norm_topk_prob": True,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}

LFM2 = _COMMON | {
    "model_type": "lfm2",
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 512,
    "block_ff_dim": 1536,
    "block_multiple_of": 256,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "intermediate_size": 1536,
    "full_attn_idxs": [1, 3, 5, 7],
}

FALCON_H1 = _COMMON | {
    "model_type": "falcon_h1",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "intermediate_size": 768,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "mamba_d_ssm": 768,
    "mamba_n_heads": 12,
    "mamba_d_head": 64,
    "mamba_d_state": 64,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_chunk_size": 128,
    "tie_word_embeddings": True,
}
