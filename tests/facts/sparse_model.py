"""Models of any size on any disk: real headers before holes, in files that hold no weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

BYTES = {"X": 1, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1, "U32": 4, "I32": 4, "I64": 8}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""The type and the shape of each tensor, by its name."""

DEEPSEEK_V3: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_shared_experts": 1,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "moe_layer_freq": 1,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "num_nextn_predict_layers": 1,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}
"""As published: the architecture that the model's report gives (arXiv 2412.19437, 671 billion parameters)."""


def deepseek_v3() -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    """The tensors of DeepSeek-V3 as they are published: weights in 8 bits with a scale for each block of 128 x 128."""
    yield "model.embed_tokens.weight", ("BF16", (129280, 7168))
    for layer in range(62):  # the last predicts a token more, and is left out by mlx_lm
        yield from _layer(f"model.layers.{layer}", dense=layer < 3)
    yield from _blocks("model.layers.61.eh_proj", 7168, 14336)
    yield "model.layers.61.embed_tokens.weight", ("BF16", (129280, 7168))
    yield "model.layers.61.shared_head.head.weight", ("BF16", (129280, 7168))
    for name in ("enorm", "hnorm", "shared_head.norm"):
        yield f"model.layers.61.{name}.weight", ("BF16", (7168,))
    yield "model.norm.weight", ("BF16", (7168,))
    yield "lm_head.weight", ("BF16", (129280, 7168))


def _layer(layer: str, *, dense: bool) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    projections = {
        "q_a_proj": (1536, 7168),
        "q_b_proj": (24576, 1536),
        "kv_a_proj_with_mqa": (576, 7168),
        "kv_b_proj": (32768, 512),
        "o_proj": (7168, 16384),
    }
    for name, shape in projections.items():
        yield from _blocks(f"{layer}.self_attn.{name}", *shape)
    for name, size in {"self_attn.q_a_layernorm": 1536, "self_attn.kv_a_layernorm": 512}.items():
        yield f"{layer}.{name}.weight", ("BF16", (size,))
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{layer}.{name}.weight", ("BF16", (7168,))
    if dense:
        yield from _expert(f"{layer}.mlp", 18432)
        return
    yield f"{layer}.mlp.gate.weight", ("BF16", (256, 7168))
    yield f"{layer}.mlp.gate.e_score_correction_bias", ("F32", (256,))
    yield from _expert(f"{layer}.mlp.shared_experts", 2048)
    for expert in range(256):
        yield from _expert(f"{layer}.mlp.experts.{expert}", 2048)


def _expert(name: str, size: int) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    yield from _blocks(f"{name}.gate_proj", size, 7168)
    yield from _blocks(f"{name}.up_proj", size, 7168)
    yield from _blocks(f"{name}.down_proj", 7168, size)


def _blocks(name: str, rows: int, columns: int) -> Iterator[tuple[str, tuple[str, tuple[int, ...]]]]:
    yield f"{name}.weight", ("F8_E4M3", (rows, columns))
    yield f"{name}.weight_scale_inv", ("F32", (-(-rows // 128), -(-columns // 128)))


def header(shapes: Shapes) -> tuple[bytes, int]:
    """A safetensors file's beginning, and how many bytes of data follow."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + math.prod(shape) * BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, end


def write_file(path: Path, shapes: Shapes) -> None:
    """A safetensors file with a hole where its data would be."""
    beginning, data_bytes = header(shapes)
    path.write_bytes(beginning)
    os.truncate(path, len(beginning) + data_bytes)


def write_model(
    folder: Path, config: Mapping[str, Any], tensors: Iterable[tuple[str, tuple[str, tuple[int, ...]]]], shards: int
) -> int:
    """A model in as many files, with their index; its size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    found = list(tensors)
    each = -(-len(found) // shards)
    weight_map, total = {}, 0
    for number in range(shards):
        part = dict(found[number * each : (number + 1) * each])
        name = f"model-{number + 1:05}-of-{shards:06}.safetensors" if shards > 1 else "model.safetensors"
        write_file(folder / name, part)
        weight_map |= dict.fromkeys(part, name)
        total += sum(math.prod(shape) * BYTES[dtype] for dtype, shape in part.values())
    if shards > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text(json.dumps(config))
    return total
