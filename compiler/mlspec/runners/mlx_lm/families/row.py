"""What mlspec knows of a family of language models in mlx_lm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlspec.runners.mlx_lm.families.caches import Keeps, grouped
from mlspec.runners.mlx_lm.families.config import Config
from mlspec.runners.mlx_lm.families.tensors import Step


@dataclass(frozen=True)
class Family:
    """How mlx_lm takes a model of one family.

    `keeps` gives its caches by its configuration, `loads` are the steps from the file's tensors to the model's. `names`
    are its own keys for the usual ones, `defaults` what it takes where a key is missing; `own_head_dim`: it heeds
    `head_dim`. Of its modules (by the ends of their paths) `fixed` are never quantized, `eight_bits` are in 8 bits
    (affine, groups of 64) whatever the rest is in, `tall_eight_bits` those with more rows than columns. `own_type` are
    parts of names of tensors that a conversion leaves in the type that they have. `fixed_beside`: modules that aren't
    quantized in layers that hold a certain tensor. `inside` is for one that sees: the family of the language model in
    it, by that one's model_type, "" for any other.
    """

    keeps: Callable[[Config], Keeps] = grouped
    loads: tuple[Step, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    own_head_dim: bool = False
    fixed: tuple[str, ...] = ()
    fixed_beside: tuple[tuple[str, ...], str] = ((), "")
    eight_bits: tuple[str, ...] = ()
    tall_eight_bits: tuple[str, ...] = ()
    own_type: tuple[str, ...] = ()
    inside: Mapping[str, str] = field(default_factory=dict)
