"""The shape of a language model, as far as memory and speed depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Cache = Literal["full", "window", "chunked", "latent", "state", "none"]


@dataclass(frozen=True)
class Layers:
    """`count` layers that keep the same things of each sequence.

    `full`, `window` (the last `window` tokens, mlx_lm's RotatingKVCache) and `chunked` keep `kv_heads` keys of
    `key_dim` and values of `value_dim` a token; `latent` keeps `key_dim` + `value_dim` elements a token whatever the
    heads (kv_lora_rank and the rotary part; `kv_heads` is 1); `state` keeps `state_elements` whatever the length, of
    which `state_float32` in float32. A layer that keeps two kinds at once (falcon_h1) stands in two groups.
    `scan_heads` are the heads of a state space that mlx_lm's `ssm_attn` computes in blocks while it reads a prompt; 0
    for any other.
    """

    count: int
    cache: Cache
    kv_heads: int = 0
    key_dim: int = 0
    value_dim: int = 0
    window: int | None = None
    state_elements: int = 0
    state_float32: int = 0
    scan_heads: int = 0


@dataclass(frozen=True)
class Experts:
    """A mixture of experts: of `count` in a layer each token takes `active`."""

    count: int
    active: int


@dataclass(frozen=True)
class Architecture:
    """`known` is false where the family is none that mlspec knows: the shape is then estimated from tensor headers.

    `parameters` counts all weights, `active_parameters` those that one token is multiplied with (embedding rows that
    are only looked up are left out). `hidden`, `heads`, `head_dim`, `intermediate` (of one token's path through a
    layer: for experts active times their size) and `vocabulary` are element counts. `layers` is the number of decoder
    layers. Latent attention's `head_dim` is a query's with its rotary part. `sinks`: attention has sinks (gpt_oss).
    """

    known: bool
    layers: int
    hidden: int
    heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    parameters: int
    active_parameters: int
    keeps: tuple[Layers, ...]
    experts: Experts | None = None
    sinks: bool = False

    def as_data(self) -> dict[str, Any]:
        """JSON data, as a model's facts hold it."""
        return asdict(self)

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Architecture:
        """The inverse of `as_data`."""
        experts = Experts(**data["experts"]) if data["experts"] else None
        keeps = tuple(Layers(**group) for group in data["keeps"])
        return Architecture(**{**data, "experts": experts, "keeps": keeps})
