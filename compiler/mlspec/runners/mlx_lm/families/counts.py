"""What is counted of a model's tensors: parameters, those that a token meets, experts, widths."""

from __future__ import annotations

import re

from mlspec.runners.mlx_lm.architecture import Architecture, Experts, Layers
from mlspec.runners.mlx_lm.families.config import Config, UnreadableConfigError
from mlspec.runners.mlx_lm.packing import Packing
from mlspec.runners.mlx_lm.tensor_table import Row, size

_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|embeddings|embedding|embed_in|embed)\.weight$"
)
_LOOKED_UP = re.compile(r"(embed_tokens_per_layer|wpe|ngram_embeddings\.\w+\.\*)\.weight$")
_EXPERT = re.compile(r"\.(switch_mlp|switch_glu|experts)\.(\*\.)?\w+\.(weight|bias)$")
_DOWN = re.compile(r"\.(down_proj|fc2|w2|c_proj|dense_4h_to_h|fc_out|proj_2|value|wo)\.weight$")


def counted(
    rows: tuple[Row, ...], config: Config, packing: Packing, known: bool, layers: int, keeps: tuple[Layers, ...]
) -> Architecture:
    """The architecture of a model that keeps this of each sequence. `rows` are its tensors as they are loaded."""
    real = packing.unpacked(rows)
    embedding = max((row for row in real if _EMBEDDING.search(row.name)), key=lambda row: row.elements, default=None)
    experts = _experts(real, config)
    hidden = _tried(config, "hidden_size") or (embedding.shape[-1] if embedding else 0)
    heads = _tried(config, "num_attention_heads") or 1
    return Architecture(
        known=known,
        layers=layers,
        hidden=hidden,
        heads=heads,
        head_dim=_head_dim(config, keeps, hidden, heads),
        intermediate=_intermediate(real, experts) or _tried(config, "intermediate_size") or 4 * hidden,
        vocabulary=embedding.shape[0] if embedding else _tried(config, "vocab_size") or 0,
        parameters=sum(row.elements for row in real),
        active_parameters=_active(real, embedding, experts),
        keeps=keeps,
        experts=experts,
        sinks=any(row.name.endswith((".sinks", ".attention_sink_bias")) for row in real),
    )


def _tried(config: Config, key: str) -> int:
    try:
        return config.optional(key) or 0
    except UnreadableConfigError:
        return 0


def _head_dim(config: Config, keeps: tuple[Layers, ...], hidden: int, heads: int) -> int:
    """The size of a query's head."""
    if any(group.cache == "latent" for group in keeps):
        return _tried(config, "qk_nope_head_dim") + _tried(config, "qk_rope_head_dim")
    own = _tried(config, "head_dim") if config.own_head_dim else 0
    kept = next((group.key_dim for group in keeps if group.cache in ("full", "window", "chunked")), 0)
    return own or kept or hidden // heads


def _experts(rows: tuple[Row, ...], config: Config) -> Experts | None:
    counts = [_experts_in(row) for row in rows if _is_expert(row)]
    if not counts:
        return None
    active = _chosen(config) or max(counts)
    return Experts(max(counts), min(active, max(counts)))


def _chosen(config: Config) -> int:
    """How many experts a token takes: dbrx says it in a map of its own, hunyuan may say it for each layer."""
    ffn, given = config.values.get("ffn_config"), config.value("num_experts_per_tok")
    if isinstance(ffn, dict):
        return _tried(Config(ffn), "moe_top_k")
    if isinstance(given, list):
        return max((number for number in given if type(number) is int), default=0)
    return _tried(config, "num_experts_per_tok")


def _is_expert(row: Row) -> bool:
    found = _EXPERT.search(row.name)
    fewest = 1 if found is None or found[2] is not None else 3 if found[3] == "weight" else 2
    return found is not None and len(row.shape) >= fewest


def _experts_in(row: Row) -> int:
    """Of one layer: they lie in one tensor, or (dbrx) one by one."""
    return row.count // size(row.layers) if ".experts.*." in row.name and row.layers else row.shape[0]


def _active(rows: tuple[Row, ...], embedding: Row | None, experts: Experts | None) -> int:
    """The weights that one token is multiplied with: without looked-up rows, and of experts the chosen ones."""
    total = 0
    for row in rows:
        if _LOOKED_UP.search(row.name) or (row == embedding and _has_head(rows, embedding)):
            continue
        count = _experts_in(row) if experts is not None and _is_expert(row) else 1
        total += row.elements * min(experts.active, count) // count if count > 1 and experts else row.elements
    return total


def _has_head(rows: tuple[Row, ...], embedding: Row) -> bool:
    """Whether another tensor than the embedding gives the logits."""
    return any(
        row is not embedding and row.layers is None and len(row.shape) == 2 and row.shape == embedding.shape
        for row in rows
        if not _LOOKED_UP.search(row.name)
    )


def _intermediate(rows: tuple[Row, ...], experts: Experts | None) -> int:
    """The width of the widest layer's own path: a dense one, or the chosen experts and the shared one."""
    dense = shared = chosen = 0
    for row in rows:
        if not _DOWN.search(row.name) or "attn" in row.name or "attention" in row.name:
            continue
        if experts is not None and _is_expert(row):
            chosen = max(chosen, experts.active * row.shape[-1])
        elif "shared" in row.name or "share_expert" in row.name:
            shared = max(shared, row.shape[-1])
        else:
            dense = max(dense, row.shape[-1])
    return max(dense, chosen + shared)
