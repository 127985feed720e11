"""What mlx_lm keeps of each sequence, by family: the arrays that its `make_cache` makes and its layers fill.

Read from mlx_lm's models; the tests build a small model of each family and compare.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle, islice

from mlspec.runners.mlx_lm.architecture import Layers
from mlspec.runners.mlx_lm.families.config import Config, UnreadableConfigError

Keeps = list[Layers]

_FULL = "full_attention"
_SLIDING = "sliding_attention"


def merged(keeps: Iterable[Layers]) -> tuple[Layers, ...]:
    """Groups that keep the same as one, in the order of their first layers."""
    counts: dict[Layers, int] = {}
    for group in keeps:
        one = _times(group, 1)
        counts[one] = counts.get(one, 0) + group.count
    return tuple(_times(one, count) for one, count in counts.items() if count)


def grouped(config: Config) -> Keeps:
    """Keys and values of all tokens in all layers."""
    return [_full(config, config.layers)]


def every_head(config: Config) -> Keeps:
    """Families whose key heads are as many as their query heads, whatever the configuration says."""
    return [_full(config, config.layers, kv_heads=config.heads)]


def multi_query(config: Config) -> Keeps:
    """gpt_bigcode: one head of keys and values for all, unless the configuration says otherwise."""
    return [_full(config, config.layers, kv_heads=1 if config.flag("multi_query") else config.heads)]


def named_windows(config: Config) -> Keeps:
    """The layers that `layer_types` calls sliding keep a window, all others everything."""
    kinds = config.listed("layer_types")
    if kinds is None:
        return grouped(config)
    return [_window_if(config, kind == _SLIDING) for kind in config.of_layers("layer_types")]


def named_full(config: Config) -> Keeps:
    """The layers that `layer_types` calls full keep everything, all others a window."""
    return [_window_if(config, kind != _FULL) for kind in _kinds(config)]


def typed_windows(config: Config) -> Keeps:
    """As `named_windows`, by the family's own pattern where there is no list."""
    return [_window_if(config, kind == _SLIDING) for kind in _kinds(config)]


def pattern_windows(config: Config) -> Keeps:
    """The last layer of each `sliding_window_pattern` keeps everything, the others a window."""
    pattern = config.count("sliding_window_pattern")
    return [_window_if(config, (layer + 1) % pattern != 0) for layer in range(config.layers)]


def plamo_windows(config: Config) -> Keeps:
    """plamo3: a pattern, the window's size under either name."""
    size = config.optional("sliding_window") or config.count("window_size")
    pattern, window = config.count("sliding_window_pattern"), _windowed(config, size)
    return [window if (layer + 1) % pattern else _full(config, 1) for layer in range(config.layers)]


def letter_windows(config: Config) -> Keeps:
    """exaone4: `LLLG` repeated, L for a window."""
    letters = config.listed("sliding_window_pattern")
    if not letters:
        return grouped(config)
    return [_window_if(config, letter == "L") for letter in islice(cycle(letters), config.layers)]


def shared_windows(config: Config) -> Keeps:
    """gemma3n and gemma4: the last layers use the keys and values of earlier ones and keep none; whole attention has
    heads of its own size and number.
    """
    kinds = _kinds(config)[: config.layers - (config.optional("num_kv_shared_layers") or 0)]
    same, alone = config.flag("attention_k_eq_v"), config.optional("num_global_key_value_heads")
    heads = alone if same and alone else config.kv_heads
    size = config.optional("global_head_dim") or config.head_dim
    whole = Layers(1, "full", heads, size, size)
    return [whole if kind == _FULL else _window_if(config, True) for kind in kinds]


def swa_windows(config: Config) -> Keeps:
    """mimo_v2_flash: windows with heads of their own, values of another size than keys."""
    window = Layers(
        1,
        "window",
        config.count("swa_num_key_value_heads"),
        config.count("swa_head_dim"),
        config.count("swa_v_head_dim"),
        window=config.count("sliding_window_size"),
    )
    whole = Layers(1, "full", config.kv_heads, config.head_dim, config.count("v_head_dim"))
    return [window if kind == 1 else whole for kind in config.of_layers("hybrid_layer_pattern")]


def step_windows(config: Config) -> Keeps:
    """step3p5: every second layer a window unless `layer_types` tells; windows may have heads of their own."""
    kinds = config.listed("layer_types")
    sliding = (
        [kind == _SLIDING for kind in config.of_layers("layer_types")]
        if kinds
        else [n % 2 == 0 for n in range(config.layers)]
    )
    other = config.inside("attention_other_setting")
    heads = other.count("num_attention_groups") if other.values else config.kv_heads
    return [_window_if(config, windowed, kv_heads=heads if windowed else None) for windowed in sliding]


def chunks(config: Config) -> Keeps:
    """llama4: three of four layers keep a chunk."""
    size = config.count("attention_chunk_size")
    chunk = Layers(1, "chunked", config.kv_heads, config.head_dim, config.head_dim, window=size)
    return [_full(config, 1) if layer % 4 == 3 else chunk for layer in range(config.layers)]


def loops(config: Config) -> Keeps:
    """nanbeige: the same layers several times, each time with a cache of its own."""
    weights = config.listed("loop_loss_weights")
    times = len(weights) + 1 if weights else config.count("num_loops")
    return [_full(config, config.layers * times)]


def two_loops(config: Config) -> Keeps:
    """iquestloopcoder: everything of the first pass, a window of the second."""
    return [*grouped(config), _times(_windowed(config, config.count("loop_window_size")), config.layers)]


def reused(config: Config) -> Keeps:
    """afm7: the last layers use the keys and values of the one before them."""
    return [_full(config, config.layers - config.count("num_kv_reuse_layers"))]


def heads_per_layer(config: Config) -> Keeps:
    """openelm: as many heads of keys and values as a list says for each layer."""
    heads, size = config.of_layers("num_kv_heads"), config.count("head_dim")
    return [Layers(1, "full", _count_in(count, "num_kv_heads"), size, size) for count in heads]


def searched_blocks(config: Config) -> Keeps:
    """nemotron-nas: each block has attention of its own kind, or none."""
    blocks = [Config(block).inside("attention") for block in map(_map_in, config.of_layers("block_configs"))]
    kept = [block for block in blocks if not block.flag("no_op") and not block.flag("replace_with_linear")]
    return [_full(config, 1, kv_heads=config.heads // block.count("n_heads_in_group")) for block in kept]


def latent(config: Config) -> Keeps:
    """Multi-head latent attention that keeps what is compressed, and the rotary part."""
    return [_latent(config, config.layers)]


def latent_twice(config: Config) -> Keeps:
    """longcat_flash: two attentions in a layer."""
    return [_latent(config, 2 * config.layers)]


def latent_ngram(config: Config) -> Keeps:
    """longcat_flash_ngram: besides the last tokens' numbers, as many bytes as 6 elements of float32."""
    tokens = 2 * (config.count("emb_neighbor_num") - 1)
    return [Layers(1, "state", state_elements=tokens, state_float32=tokens), *latent_twice(config)]


def latent_indexed(config: Config) -> Keeps:
    """deepseek_v32: besides keys that choose tokens; their cache holds as many zeros for values."""
    size = config.count("index_head_dim")
    return [*latent(config), Layers(config.layers, "full", 1, size, size)]


def unfolded(config: Config) -> Keeps:
    """Latent attention whose keys and values are kept unfolded, of each head."""
    size = config.count("qk_nope_head_dim") + config.count("qk_rope_head_dim")
    values = config.optional("v_head_dim") or config.head_dim
    return [Layers(config.layers, "full", config.heads, size, values)]


def unfolded_even(config: Config) -> Keeps:
    """minicpm3: values of the hidden size divided by the heads."""
    size = config.count("qk_nope_head_dim") + config.count("qk_rope_head_dim")
    return [Layers(config.layers, "full", config.heads, size, config.hidden // config.heads)]


def indexed(config: Config) -> Keeps:
    """minimax_m3: sparse layers keep keys that choose blocks, without values."""
    given = config.inside("sparse_attention_config")
    size = given.optional("sparse_index_dim") or config.optional("index_head_dim")
    if (given.optional("sparse_block_size") or config.optional("index_block_size")) is None:
        return grouped(config)
    sparse = _sparse(config, given)
    return [*grouped(config), Layers(sparse, "full", 1, size or 0, 0)]


def _sparse(config: Config, given: Config) -> int:
    kinds, often = config.listed("layer_types"), given.listed("sparse_attention_freq")
    if kinds is not None:
        return sum(kind != _FULL for kind in config.of_layers("layer_types"))
    often = often if often is not None else config.listed("sparse_attention_freq")
    return config.layers if often is None else sum(bool(one) for one in often[: config.layers])


def _kinds(config: Config) -> tuple[object, ...]:
    """The kinds of the layers, by their list or by the family's own rule: the last of each pattern is whole."""
    if config.listed("layer_types") is not None:
        return config.of_layers("layer_types")
    pattern = config.count("sliding_window_pattern")
    return tuple(_FULL if (layer + 1) % pattern == 0 else _SLIDING for layer in range(config.layers))


def _window_if(config: Config, windowed: bool, kv_heads: int | None = None) -> Layers:
    if not windowed:
        return _full(config, 1)
    return _windowed(config, config.count("sliding_window"), kv_heads)


def _windowed(config: Config, window: int, kv_heads: int | None = None) -> Layers:
    return Layers(1, "window", kv_heads or config.kv_heads, config.head_dim, config.head_dim, window=window)


def _full(config: Config, count: int, kv_heads: int | None = None) -> Layers:
    return Layers(count, "full", kv_heads or config.kv_heads, config.head_dim, config.head_dim)


def _latent(config: Config, count: int) -> Layers:
    return Layers(count, "latent", 1, config.count("kv_lora_rank"), config.count("qk_rope_head_dim"))


def _times(group: Layers, count: int) -> Layers:
    return replace(group, count=count)


def _count_in(value: object, key: str) -> int:
    return Config({key: value}).count(key)


def _map_in(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise UnreadableConfigError("block_configs")
    return value
