"""Well-known language models as headers without weights: their real configurations, and the tensors that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from facts.sparse_model import DEEPSEEK_V3, write_model

Tensors = Iterator[tuple[str, tuple[str, tuple[int, ...]]]]
_MOST_TENSORS = 500
"""In a file; larger models have several, as they are published."""


def _llama(
    hidden: int, layers: int, heads: int, kv_heads: int, width: int, *, vocabulary: int, context: int, tied: bool
) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": width,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "torch_dtype": "bfloat16",
    }


def _qwen3(hidden: int, layers: int, heads: int, kv_heads: int, width: int, *, tied: bool) -> dict[str, Any]:
    return {
        **_llama(hidden, layers, heads, kv_heads, width, vocabulary=151936, context=40960, tied=tied),
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000,
    }


def _qwen3_moe(hidden: int, layers: int, heads: int, kv_heads: int, width: int, *, expert: int) -> dict[str, Any]:
    return {
        **_qwen3(hidden, layers, heads, kv_heads, width, tied=False),
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": expert,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
    }


_AS_PUBLISHED = ("num_nextn_predict_layers", "quantization_config")
_DEEPSEEK_V3 = {key: value for key, value in DEEPSEEK_V3.items() if key not in _AS_PUBLISHED}
"""Converted to bfloat16, which leaves the further prediction out."""

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "SmolLM2-135M": _llama(576, 30, 9, 3, 1536, vocabulary=49152, context=8192, tied=True),
    "Llama-3.2-1B": _llama(2048, 16, 32, 8, 8192, vocabulary=128256, context=131072, tied=True),
    "Qwen3-4B": _qwen3(2560, 36, 32, 8, 9728, tied=True),
    "Llama-3.1-8B": _llama(4096, 32, 32, 8, 14336, vocabulary=128256, context=131072, tied=False),
    "Qwen3-30B-A3B": _qwen3_moe(2048, 48, 32, 4, 6144, expert=768),
    "Llama-3.3-70B": _llama(8192, 80, 64, 8, 28672, vocabulary=128256, context=131072, tied=False),
    "Qwen3-235B-A22B": _qwen3_moe(4096, 94, 64, 4, 12288, expert=1536),
    "DeepSeek-V3-671B": _DEEPSEEK_V3,
}
"""As published on Hugging Face's hub, without what neither memory nor speed depends on."""


def write(folder: Path, name: str) -> int:
    """One of these models in bfloat16, in mlx_lm's format, as files that are holes but for their headers; its bytes."""
    config = CONFIGS[name]
    found = list(tensors(config))
    return write_model(folder, config, found, shards=-(-len(found) // _MOST_TENSORS))


def tensors(config: Mapping[str, Any]) -> Tensors:
    """The tensors of a model as `mlx_lm.convert` writes them: experts stacked, latent attention in two."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", _bf16(vocabulary, hidden)
    attention = _latent if "kv_lora_rank" in config else _grouped
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        yield from attention(f"{layer}.self_attn", config)
        yield from _feed_forward(f"{layer}.mlp", config, index)
        yield f"{layer}.input_layernorm.weight", _bf16(hidden)
        yield f"{layer}.post_attention_layernorm.weight", _bf16(hidden)
    yield "model.norm.weight", _bf16(hidden)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", _bf16(vocabulary, hidden)


def _grouped(name: str, config: Mapping[str, Any]) -> Tensors:
    hidden, heads, kv_heads = (config[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    head = config.get("head_dim", hidden // heads)
    yield f"{name}.q_proj.weight", _bf16(heads * head, hidden)
    yield f"{name}.k_proj.weight", _bf16(kv_heads * head, hidden)
    yield f"{name}.v_proj.weight", _bf16(kv_heads * head, hidden)
    yield f"{name}.o_proj.weight", _bf16(hidden, heads * head)
    if config["model_type"].startswith("qwen3"):
        yield f"{name}.q_norm.weight", _bf16(head)
        yield f"{name}.k_norm.weight", _bf16(head)


def _latent(name: str, config: Mapping[str, Any]) -> Tensors:
    hidden, heads, rank = (config[k] for k in ("hidden_size", "num_attention_heads", "kv_lora_rank"))
    nope, rope, value = (config[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    yield f"{name}.q_a_proj.weight", _bf16(config["q_lora_rank"], hidden)
    yield f"{name}.q_a_layernorm.weight", _bf16(config["q_lora_rank"])
    yield f"{name}.q_b_proj.weight", _bf16(heads * (nope + rope), config["q_lora_rank"])
    yield f"{name}.kv_a_proj_with_mqa.weight", _bf16(rank + rope, hidden)
    yield f"{name}.kv_a_layernorm.weight", _bf16(rank)
    yield f"{name}.embed_q.weight", _bf16(heads, rank, nope)
    yield f"{name}.unembed_out.weight", _bf16(heads, value, rank)
    yield f"{name}.o_proj.weight", _bf16(hidden, heads * value)


def _feed_forward(name: str, config: Mapping[str, Any], layer: int) -> Tensors:
    hidden = config["hidden_size"]
    experts = config.get("num_experts") or config.get("n_routed_experts")
    if experts is None or layer < config.get("first_k_dense_replace", 0):
        yield from _gated(name, (config["intermediate_size"], hidden))
        return
    width = config["moe_intermediate_size"]
    yield f"{name}.gate.weight", _bf16(experts, hidden)
    yield from _gated(f"{name}.switch_mlp", (width, hidden), experts)
    if "n_shared_experts" in config:
        yield f"{name}.gate.e_score_correction_bias", ("F32", (experts,))
        yield from _gated(f"{name}.shared_experts", (width * config["n_shared_experts"], hidden))


def _gated(name: str, shape: tuple[int, int], *experts: int) -> Tensors:
    width, hidden = shape
    yield f"{name}.gate_proj.weight", _bf16(*experts, width, hidden)
    yield f"{name}.up_proj.weight", _bf16(*experts, width, hidden)
    yield f"{name}.down_proj.weight", _bf16(*experts, hidden, width)


def _bf16(*shape: int) -> tuple[str, tuple[int, ...]]:
    return "BF16", shape
