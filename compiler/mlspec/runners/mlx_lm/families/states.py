"""What state-space and linear-attention layers keep of each sequence: arrays of one size, whatever its length.

A `conv` state holds the last inputs of a convolution, in the model's own type; which recurrent states are in float32
whatever the model's type is, is as the kernels in mlx_lm make them.
"""

from __future__ import annotations

from collections.abc import Callable

from mlspec.runners.mlx_lm.architecture import Layers
from mlspec.runners.mlx_lm.families.caches import Keeps
from mlspec.runners.mlx_lm.families.config import Config, UnreadableConfigError


def mamba(config: Config) -> Keeps:
    inner = config.count("intermediate_size")
    state = (config.count("conv_kernel") - 1) * inner + inner * config.count("state_size")
    return [Layers(config.layers, "state", state_elements=state)]


def mamba2(config: Config) -> Keeps:
    state = config.optional("ssm_state_size") or config.count("state_size")
    one = _grouped_state(config, "num_heads", "head_dim", "n_groups", "conv_kernel", state)
    return [one] * config.layers


def jamba(config: Config) -> Keeps:
    inner = config.count("mamba_expand") * config.hidden
    state = (config.count("mamba_d_conv") - 1) * inner + inner * config.count("mamba_d_state")
    return _mixed(config, _jamba_attention(config), Layers(1, "state", state_elements=state))


def falcon_h1(config: Config) -> Keeps:
    """Each layer has both: attention and a state."""
    inner, state = config.count("mamba_d_ssm"), config.count("mamba_d_state")
    conv = _conv(config, "mamba_d_conv", inner + 2 * config.count("mamba_n_groups") * state)
    recurrent = config.count("mamba_n_heads") * config.count("mamba_d_head") * state
    return [_state(conv, recurrent, config.count("mamba_n_heads")), _attention(config)] * config.layers


def granite(config: Config) -> Keeps:
    kinds = config.of_layers("layer_types")
    if "mamba" not in kinds:
        return [_attention(config)] * kinds.count("attention")
    state = config.count("mamba_d_state")
    one = _grouped_state(config, "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_conv", state)
    return [one] * kinds.count("mamba") + [_attention(config)] * kinds.count("attention")


def nemotron_h(config: Config) -> Keeps:
    """A letter a layer: M keeps a state, * keys and values; - and E are layers that keep nothing."""
    letters = config.listed("hybrid_override_pattern")
    if letters is None:
        letters = tuple(_LETTERS.get(str(kind)) for kind in _block_kinds(config))
    one = _grouped_state(
        config, "mamba_num_heads", "mamba_head_dim", "n_groups", "conv_kernel", config.count("ssm_state_size")
    )
    return [one] * letters.count("M") + [_attention(config)] * letters.count("*")


_LETTERS = {"full_attention": "*", "attention": "*", "linear_attention": "M", "mamba": "M", "conv": "M"}


def short_convolutions(config: Config) -> Keeps:
    """lfm2: attention in some layers, a short convolution in the others."""
    state = _state((config.count("conv_L_cache") - 1) * config.hidden, 0)
    chosen = config.listed("full_attn_idxs")
    if chosen is None:
        kinds = config.of_layers("layer_types")
        return _mixed(config, lambda layer: kinds[layer] == "full_attention", state)
    return _mixed(config, lambda layer: layer in chosen, state)


def gated_delta(config: Config) -> Keeps:
    """qwen3_next and qwen3_5: whole attention in the last layer of each interval, a gated delta rule in the others."""
    interval = config.count("full_attention_interval")
    return _mixed(config, lambda layer: (layer + 1) % interval == 0, _linear_state(config))


def named_gated_delta(config: Config) -> Keeps:
    """olmo_hybrid: by `layer_types`, else every fourth layer is whole attention."""
    if config.listed("layer_types") is None:
        return _mixed(config, lambda layer: layer % 4 == 3, _linear_state(config))
    kinds = config.of_layers("layer_types")
    return _mixed(config, lambda layer: kinds[layer] != "linear_attention", _linear_state(config))


def kimi_delta(config: Config) -> Keeps:
    """kimi_linear: in the layers of a list (counted from 1) a delta rule, in the others latent attention."""
    linear = config.inside("linear_attn_config")
    chosen = linear.listed("kda_layers") or ()
    heads, size = linear.count("num_heads"), linear.count("head_dim")
    width = linear.optional("short_conv_kernel_size")
    state = _state(3 * ((4 if width is None else width) - 1) * heads * size, heads * size * size)
    return _mixed(config, lambda layer: layer + 1 not in chosen, state, _latent(config))


def bailing_delta(config: Config) -> Keeps:
    """bailing_moe_v3: a delta rule with short convolutions, latent attention once a group."""
    heads, size = config.heads, config.count("head_dim")
    state = _state(3 * (config.count("short_conv_kernel_size") - 1) * heads * size, heads * size * size)
    return _mixed(config, _last_of_group(config), state, _latent(config))


def bailing_linear(config: Config) -> Keeps:
    """bailing_moe_linear: linear attention, whole attention once a group."""
    size = config.hidden // config.heads
    return _mixed(config, _last_of_group(config), _state(config.heads * size * size, 0))


def bailing_hybrid(config: Config) -> Keeps:
    """bailing_hybrid: linear attention in float32, latent attention once a group."""
    size = config.head_dim
    return _mixed(config, _last_of_group(config), _state(0, config.heads * size * size), _latent(config))


def recurrent_gemma(config: Config) -> Keeps:
    """A pattern of recurrent layers and windows with one head of keys and values."""
    kinds = config.listed("block_types") or config.listed("_block_types")
    if not kinds:
        raise UnreadableConfigError("block_types")
    state = _state(config.count("conv1d_width") * config.hidden, 0)
    size, window = config.hidden // config.heads, config.count("attention_window_size")
    one = Layers(1, "window", 1, size, size, window=window)
    return [state if kinds[layer % len(kinds)] == "recurrent" else one for layer in range(config.layers)]


def plamo2(config: Config) -> Keeps:
    heads, size = config.count("mamba_num_heads"), config.count("hidden_size_per_head")
    conv = (config.count("mamba_d_conv") - 1) * heads * size
    attention = Layers(1, "full", config.kv_heads, size, size)
    state = _state(conv, heads * size * config.count("mamba_d_state"), heads)
    return _mixed(config, _plamo2_attention(config), state, attention)


def rwkv7(config: Config) -> Keeps:
    size = config.count("head_dim")
    return [_state(2 * config.hidden + config.hidden // size * size * size, 0)] * config.layers


def baichuan_m1(config: Config) -> Keeps:
    """The last key and value beside each layer's cache; windows may have heads of their own."""
    windowed = config.listed("sliding_window_layers") or ()
    keeps = []
    for layer in range(config.layers):
        swa = layer in windowed
        heads = (config.optional("num_swa_attention_heads") if swa else None) or config.heads
        kv_heads = (config.optional("num_swa_key_value_heads") if swa else None) or config.kv_heads
        size = config.hidden // heads
        window = config.count("sliding_window") if swa else None
        keeps.append(_state(2 * kv_heads * size, 0))
        keeps.append(Layers(1, "window" if swa else "full", kv_heads, size, size, window=window))
    return keeps


def _mixed(config: Config, attends: Callable[[int], bool], state: Layers, attention: Layers | None = None) -> Keeps:
    attention = attention or _attention(config)
    return [attention if attends(layer) else state for layer in range(config.layers)]


def _jamba_attention(config: Config) -> Callable[[int], bool]:
    kinds = config.listed("layers_block_type")
    if kinds is not None:
        kinds = config.of_layers("layers_block_type")
        return lambda layer: kinds[layer] == "attention"
    period, offset = config.count("attn_layer_period"), config.optional("attn_layer_offset") or 0
    return lambda layer: layer % period == offset


def _last_of_group(config: Config) -> Callable[[int], bool]:
    group = config.count("layer_group_size")
    return lambda layer: (layer + 1) % group == 0 or layer >= config.layers // group * group


def _plamo2_attention(config: Config) -> Callable[[int], bool]:
    step = config.count("mamba_step")
    if not config.flag("mamba_enabled") or step < 2:
        return lambda layer: True
    if config.layers <= step // 2:
        return lambda layer: layer == config.layers - 1
    return lambda layer: layer % step == step // 2


def _block_kinds(config: Config) -> tuple[object, ...]:
    kinds = config.listed("layers_block_type") or config.listed("layer_types")
    if not kinds:
        raise UnreadableConfigError("hybrid_override_pattern")
    return kinds


def _grouped_state(config: Config, heads: str, size: str, groups: str, kernel: str, state: int) -> Layers:
    inner = config.count(heads) * config.count(size)
    conv = _conv(config, kernel, inner + 2 * config.count(groups) * state)
    return _state(conv, inner * state, config.count(heads))


def _linear_state(config: Config) -> Layers:
    keys = config.count("linear_num_key_heads") * config.count("linear_key_head_dim")
    values = config.count("linear_num_value_heads") * config.count("linear_value_head_dim")
    conv = _conv(config, "linear_conv_kernel_dim", 2 * keys + values)
    return _state(conv, values * config.count("linear_key_head_dim"))


def _conv(config: Config, kernel: str, width: int) -> int:
    return (config.count(kernel) - 1) * width


def _state(own_type: int, float32: int, scan_heads: int = 0) -> Layers:
    return Layers(1, "state", state_elements=own_type + float32, state_float32=float32, scan_heads=scan_heads)


def _attention(config: Config) -> Layers:
    return Layers(1, "full", config.kv_heads, config.head_dim, config.head_dim)


def _latent(config: Config) -> Layers:
    return Layers(1, "latent", 1, config.count("kv_lora_rank"), config.count("qk_rope_head_dim"))
