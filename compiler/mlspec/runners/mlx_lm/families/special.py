"""Steps from the tensors of a file to those in memory that one family alone takes (mlx_lm's models, `sanitize`)."""

from __future__ import annotations

import re
from math import prod

from mlspec.runners.mlx_lm.families.config import Config
from mlspec.runners.mlx_lm.families.tensors import Renamed, Rows, Split, words
from mlspec.runners.mlx_lm.tensor_table import Row, below


def blocks_kept(rows: Rows, config: Config) -> Rows:
    """8-bit floats with a scale for 32 values each stay packed: mlx's own mxfp8."""
    names = {row.name for row in rows if row.name.endswith(".weight_scale_inv")}
    return [_packed_bytes(row, names) for row in rows]


def _packed_bytes(row: Row, scales: set[str]) -> Row:
    if row.name in scales:
        return row.but(name=row.name.replace(".weight_scale_inv", ".scales"))
    return words(row) if f"{row.name}_scale_inv" in scales else row


def without_shared(rows: Rows, config: Config) -> Rows:
    """gemma4: without keys and values of the layers that use earlier ones."""
    first = config.layers - (config.optional("num_kv_shared_layers") or 0)
    kept = (below(row, first) if re.search(r"self_attn\.(k_proj|v_proj|k_norm)\.", row.name) else row for row in rows)
    return [row for row in kept if row is not None]


def gpt_oss(rows: Rows, config: Config) -> Rows:
    """The experts' blocks of 16 bytes are mlx's words; gates and other rows alternate."""
    if any(row.name.endswith("gate_proj.weight") for row in rows):
        return rows
    renamed = [_gpt_oss_name(row) for row in rows]
    return Split(r"gate_up_proj(?=\.)", ("gate_proj", "up_proj"))(_with_biases_halved(renamed), config)


def _gpt_oss_name(row: Row) -> Row:
    if row.name.endswith("_blocks"):
        flat = row.but(shape=(*row.shape[:-2], prod(row.shape[-2:])))
        return words(flat).but(name=row.name.replace("_blocks", ".weight"))
    return row.but(name=row.name.replace("_scales", ".scales").replace("_proj_bias", "_proj.bias"))


def _with_biases_halved(rows: Rows) -> Rows:
    """A bias has its rows last: it is split here."""
    found: Rows = []
    for row in rows:
        if row.name.endswith("gate_up_proj.bias"):
            half = row.but(shape=(*row.shape[:-1], row.shape[-1] // 2))
            names = (row.name.replace("gate_up_proj", name) for name in ("gate_proj", "up_proj"))
            found += [half.but(name=name) for name in names]
        else:
            found.append(row)
    return found


def hunyuan(rows: Rows, config: Config) -> Rows:
    """Queries, keys and values in one tensor become three."""
    heads, kv_heads, head_dim = config.heads, config.kv_heads, config.hidden // config.heads
    found: Rows = []
    for row in rows:
        if ".qkv_proj." in row.name and len(row.shape) == 2:
            for name, count in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
                shape = (count * head_dim, row.shape[1])
                found.append(row.but(name=row.name.replace("qkv_proj", name), shape=shape))
        else:
            found.append(row)
    return found


def granite_dense(rows: Rows, config: Config) -> Rows:
    """granitemoehybrid without experts: what is shared among experts elsewhere is all that there is."""
    if config.optional("num_local_experts"):
        return rows
    split = Split(r"\bshared_mlp\.input_linear", ("mlp.gate_proj", "mlp.up_proj"))(rows, config)
    return Renamed(((r"\bshared_mlp\.output_linear", "mlp.down_proj"),))(split, config)


def dbrx(rows: Rows, config: Config) -> Rows:
    """All experts in one tensor become one tensor each."""
    experts = config.inside("ffn_config").count("moe_num_experts")
    return [_apart(row, experts) for row in rows]


def _apart(row: Row, experts: int) -> Row:
    if "experts.mlp." not in row.name or len(row.shape) != 2:
        return row
    rows, columns = row.shape[0] // experts, row.shape[1]
    shape = (columns, rows) if row.name.endswith("w2") else (rows, columns)
    return row.but(
        name=row.name.replace("experts.mlp.", "experts.*.") + ".weight", shape=shape, count=row.count * experts
    )


def head_from_embedding(rows: Rows, config: Config) -> Rows:
    """minicpm: without a head of its own the embedding is taken for one."""
    names = {row.name for row in rows}
    extra = [row for row in rows if row.name == "model.embed_tokens.weight" and "lm_head.weight" not in names]
    return [*rows, *(row.but(name="lm_head.weight") for row in extra)]
