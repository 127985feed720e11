"""Small models of many shapes, made for measuring memory: random weights, mlx_lm's own classes, nothing fetched.

The `Architecture` of each is written by hand. Weights and caches are tens of megabytes, so that a wrong term shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.runners.mlx_lm.architecture import Architecture, Experts, Layers
from models.shape_configs import (
    DEEPSEEK_V3,
    FALCON_H1,
    GEMMA3,
    GPT_OSS,
    GROUPED,
    LFM2,
    MULTI_HEAD,
    QWEN3_MOE,
    TINY,
    Config,
)


@dataclass(frozen=True)
class Shape:
    """One model: its configuration, what its memory depends on, and how its weights are kept: `bits` quantizes them."""

    config: Mapping[str, Any]
    architecture: Architecture
    bits: int | None = None
    dtype: str = "float32"

    @property
    def element_bytes(self) -> int:
        """Of an activation."""
        return 4 if self.dtype == "float32" else 2


def network(shape: Shape) -> Any:
    """The model of mlx_lm, with random weights, evaluated. Imports MLX."""
    import mlx.core as mx
    from mlx_lm.utils import _get_classes, quantize_model

    config = dict(shape.config)
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.set_dtype(getattr(mx, shape.dtype))
    if shape.bits:
        model, _ = quantize_model(model, config, 64, shape.bits)
    mx.eval(model.parameters())
    model.eval()
    return model


def _of(config: Config, *keeps: Layers, width: int | None = None, head_dim: int = 64, **more: Any) -> Architecture:
    """The parts of a configuration that all families name alike; parameters, which memory doesn't depend on, are 0."""
    return Architecture(
        known=True,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        head_dim=head_dim,
        intermediate=width or config["intermediate_size"],
        vocabulary=config["vocab_size"],
        parameters=0,
        active_parameters=0,
        keeps=keeps,
        **more,
    )


def _whole(count: int, kv_heads: int) -> Layers:
    return Layers(count, "full", kv_heads, 64, 64)


def _window(count: int, kv_heads: int, window: int) -> Layers:
    return Layers(count, "window", kv_heads, 64, 64, window=window)


_CONVOLVED = 3 * (768 + 2 * 64)  # falcon_h1: the last three inputs of the convolution, over x, B and C
_STATE = 12 * 64 * 64  # heads, their size, the state's size

SHAPES = {
    "grouped": Shape(GROUPED, _of(GROUPED, _whole(8, 2))),
    "multi-head": Shape(MULTI_HEAD, _of(MULTI_HEAD, _whole(8, 8))),
    "16-bit": Shape(TINY, _of(TINY, _whole(6, 4)), dtype="bfloat16"),
    "8-bit": Shape(TINY, _of(TINY, _whole(6, 4)), bits=8),
    "4-bit": Shape(TINY, _of(TINY, _whole(6, 4)), bits=4),
    "gemma3": Shape(GEMMA3, _of(GEMMA3, _window(10, 4, 256), _whole(2, 4))),
    "gpt-oss": Shape(
        GPT_OSS, _of(GPT_OSS, _window(3, 4, 128), _whole(3, 4), width=2 * 384, experts=Experts(8, 2), sinks=True)
    ),
    "deepseek-v3": Shape(
        DEEPSEEK_V3, _of(DEEPSEEK_V3, Layers(6, "latent", 1, 256, 32), head_dim=64 + 32, experts=Experts(8, 2))
    ),
    "qwen3-moe": Shape(QWEN3_MOE, _of(QWEN3_MOE, _whole(6, 4), width=4 * 256, experts=Experts(16, 4))),
    "lfm2": Shape(LFM2, _of(LFM2, Layers(4, "state", state_elements=2 * 512), _whole(4, 8))),
    "falcon-h1": Shape(
        FALCON_H1,
        _of(
            FALCON_H1,
            Layers(6, "state", state_elements=_CONVOLVED + _STATE, state_float32=_STATE, scan_heads=12),
            _whole(6, 2),
        ),
    ),
}
