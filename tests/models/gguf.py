"""A Llama GGUF to an MLX folder without torch: names, the row order of q and k, and the tokenizer inside."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

Precision = Literal["float32", "4bit"]
Tensors = dict[str, mx.array]
GROUP_SIZE = 32  # of GGUF's Q4_1 and Q8_0 blocks
CONTROL_TOKEN = 3  # in tokenizer.ggml.token_type

_OUTSIDE_LAYERS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_IN_LAYERS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_HEADS_OF = {"q_proj": "attention.head_count", "k_proj": "attention.head_count_kv"}


@dataclass(frozen=True)
class GgufModel:
    """What `mx.load` gives for a GGUF: tensors grouped by MLX layer name, and the metadata."""

    layers: dict[str, Tensors]
    metadata: dict[str, Any]

    def number(self, key: str) -> Any:
        """A number of the `llama.` metadata."""
        return self.metadata[f"llama.{key}"].item()


def convert(source: Path, out: Path, precision: Precision) -> None:
    """Write `source` as an MLX folder; `4bit` keeps GGUF's own bits, with float32 scales."""
    model = _read(source)
    out.mkdir(parents=True, exist_ok=True)
    parts = {name: _at_precision(tensors, precision) for name, tensors in model.layers.items()}
    weights = {f"{name}.{part}": value for name, tensors in parts.items() for part, value in tensors.items()}
    mx.save_safetensors(str(out / "model.safetensors"), weights, {"format": "mlx"})
    config = {**_config(model), **(_quantization(model) if precision == "4bit" else {})}
    _write_json(out / "config.json", config)
    _save_tokenizer(model.metadata, out, config)


def _read(source: Path) -> GgufModel:
    loaded: Any = mx.load(str(source), return_metadata=True)  # MLX's stub has a union that fits no format
    tensors, metadata = loaded
    layers: dict[str, Tensors] = {}
    for key, value in tensors.items():
        name, part = _mlx_name(key)
        layers.setdefault(name, {})[part] = value
    model = GgufModel(layers, metadata)
    return GgufModel({name: _reordered(model, name) for name in layers}, metadata)


def _mlx_name(key: str) -> tuple[str, str]:
    stem, part = key.rsplit(".", 1)
    if not stem.startswith("blk."):
        return _OUTSIDE_LAYERS[stem], part
    _, layer, block = stem.split(".")
    return f"model.layers.{layer}.{_IN_LAYERS[block]}", part


def _reordered(model: GgufModel, name: str) -> Tensors:
    """llama.cpp pairs the halves of each rotary head row by row; MLX wants them as in the original model."""
    tensors, projection = model.layers[name], name.rsplit(".", 1)[1]
    if projection not in _HEADS_OF:
        return tensors
    heads = model.number(_HEADS_OF[projection])
    return {part: _unpaired(value, heads) for part, value in tensors.items()}


def _unpaired(rows: mx.array, heads: int) -> mx.array:
    count = rows.shape[0]
    return rows.reshape(heads, count // heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _bits(tensors: Mapping[str, mx.array]) -> int:
    return tensors["weight"].shape[1] * 32 // (tensors["scales"].shape[1] * GROUP_SIZE)


def _at_precision(tensors: Tensors, precision: Precision) -> Tensors:
    floats = {part: value.astype(mx.float32) for part, value in tensors.items() if value.dtype != mx.uint32}
    if "scales" not in tensors:
        return floats
    if precision == "4bit":
        return {"weight": tensors["weight"], **floats}
    packed, scales, biases = tensors["weight"], floats["scales"], floats["biases"]
    return {"weight": mx.dequantize(packed, scales, biases, group_size=GROUP_SIZE, bits=_bits(tensors))}


def _config(model: GgufModel) -> dict[str, Any]:
    width, heads = model.number("embedding_length"), model.number("attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": model.number("block_count"),
        "intermediate_size": model.number("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": model.number("attention.head_count_kv"),
        "head_dim": width // heads,
        "rms_norm_eps": float(f"{model.number('attention.layer_norm_rms_epsilon'):.7g}"),
        "vocab_size": model.number("vocab_size"),
        "rope_theta": model.number("rope.freq_base"),
        "max_position_embeddings": model.number("context_length"),
        "tie_word_embeddings": "lm_head" not in model.layers,
        "bos_token_id": model.metadata["tokenizer.ggml.bos_token_id"].item(),
        "eos_token_id": model.metadata["tokenizer.ggml.eos_token_id"].item(),
        "torch_dtype": "float32",
    }


def _quantization(model: GgufModel) -> dict[str, Any]:
    quantized = {name: _bits(tensors) for name, tensors in model.layers.items() if "scales" in tensors}
    others = {name: {"group_size": GROUP_SIZE, "bits": bits} for name, bits in quantized.items() if bits != 4}
    return {"quantization": {"group_size": GROUP_SIZE, "bits": 4, "mode": "affine", **others}}


def _save_tokenizer(metadata: dict[str, Any], out: Path, config: dict[str, Any]) -> None:
    tokens = metadata["tokenizer.ggml.tokens"]
    _tokenizer(metadata).save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[config["bos_token_id"]],
        "eos_token": tokens[config["eos_token_id"]],
        "pad_token": tokens[config["eos_token_id"]],
        "unk_token": tokens[0],
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "chat_template": metadata["tokenizer.chat_template"],
    }
    _write_json(out / "tokenizer_config.json", settings)


def _tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [(left, right) for left, right in (m.split(" ") for m in metadata["tokenizer.ggml.merges"])]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    split_digits = pre_tokenizers.Digits(individual_digits=True)
    split_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split_digits, split_words])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, metadata["tokenizer.ggml.token_type"].tolist(), strict=True)
    special = [token for token, kind in kinds if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    kinds: dict[str, Precision] = {"float32": "float32", "4bit": "4bit"}
    convert(Path(sys.argv[1]), Path(sys.argv[2]), kinds[sys.argv[3]])
