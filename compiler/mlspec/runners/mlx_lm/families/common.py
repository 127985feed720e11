"""What rows of families share: sizes, keys and steps."""

from __future__ import annotations

from typing import Any

from mlspec.runners.mlx_lm.families.tensors import Split, absorbed, dequantized, renamed, stacked, unpacked, untied


def sizes(layers: int, hidden: int, heads: int, kv_heads: int, head_dim: int | None = None) -> dict[str, Any]:
    own = {} if head_dim is None else {"head_dim": head_dim}
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **own,
    }


TIED = {"tie_word_embeddings": True}
"""The families that take the embedding for the head where the configuration says nothing."""
STACKED = stacked()
IN_PLACE = stacked("experts")
GATE = ("mlp.gate",)
BIAS = ("e_score_correction_bias",)
DEEPSEEK = {
    **sizes(30, 4096, 32, 32),
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "qk_nope_head_dim": 128,
    "num_experts_per_tok": 1,
}
GPT = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"}
NUM_LAYERS = {"num_hidden_layers": "num_layers"}
MOE_TOPK = {"num_experts_per_tok": "moe_topk"}
DEEPSEEK_LOADS = (unpacked, dequantized, STACKED, absorbed)
FUSED_ROWS = (
    Split(r"experts\.gate_up_proj$", ("switch_mlp.gate_proj.weight", "switch_mlp.up_proj.weight")),
    renamed((r"experts\.down_proj$", "switch_mlp.down_proj.weight")),
)
BAILING_LOADS = (untied, STACKED, renamed((r"mlp\.gate\.(weight|bias)$", r"mlp.gate.gate_proj.\1")))
BAILING_GATE = ("mlp.gate.gate_proj",)
GRANITE_LOADS = (
    Split(
        r"block_sparse_moe\.input_linear",
        ("block_sparse_moe.switch_mlp.gate_proj", "block_sparse_moe.switch_mlp.up_proj"),
    ),
    renamed((r"block_sparse_moe\.output_linear", "block_sparse_moe.switch_mlp.down_proj")),
    untied,
)
