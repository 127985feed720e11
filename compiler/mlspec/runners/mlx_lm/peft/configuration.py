"""What an adapter's `adapter_config.json` in PEFT's format says, and what of it mlx_lm has nothing for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlspec.characters import quoted
from mlspec.model_files import BadModelFileError
from mlspec.runners.mlx_lm.facts.adapter_config import ADAPTER_CONFIG, LARGEST_COUNT, hub_name, is_finite

_TRAIN_PLAIN = "train it without that, or merge it into the base (PEFT's merge_and_unload) and serve the result"
_RESTORE = "save it with PEFT's path_initial_model_for_weight_conversion, which makes a plain LoRA adapter of it"
_WRITE_OUT = "write the modules' names out: model.layers.0.self_attn.q_proj, or the end of such a name"

_NOT_IN_MLX: Mapping[str, str] = {
    "modules_to_save": "it replaces whole modules of the base",
    "trainable_token_indices": "it replaces rows of the embedding",
    "target_parameters": "it adapts parameters that are no modules of their own",
    "layer_replication": "it repeats layers of the base",
    "lora_bias": "its lora_B has a bias",
    "alora_invocation_tokens": "it adapts only what follows certain tokens",
    "arrow_config": "it is a router of other adapters",
}
"""Keys that must be empty, and what they mean where they aren't."""

_PLAIN_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base as it is; others (pissa, olora, corda, loftq) change it."""

_KNOWN_USES = ("use_rslora", "use_dora")
_NAMES = re.compile(r"\^?(?:[\w-]|\\?\.)+\$?", re.ASCII)
"""A pattern that is a module's name, or the end of one; any other expression could take for ever to match."""


class Obstacle(NamedTuple):
    """Why an adapter can't be converted, and the way out."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class PeftConfiguration:
    """`ranks` and `alphas` are those of single modules, by pattern; the first that matches counts."""

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    by_root: bool
    dora: bool
    base_model: str | None

    def rank_of(self, module: str) -> int:
        return next((rank for pattern, rank in self.ranks.items() if _matches(pattern, module)), self.rank)

    def scale_of(self, module: str) -> float:
        alpha = next((alpha for pattern, alpha in self.alphas.items() if _matches(pattern, module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.by_root else rank)


def is_peft(config: Mapping[str, Any]) -> bool:
    return "peft_type" in config


def obstacles(config: Mapping[str, Any]) -> Iterator[Obstacle]:
    """All that keeps an adapter of this configuration from being converted."""
    kind = config.get("peft_type")
    if kind != "LORA":
        yield Obstacle(f"its peft_type is {quoted(kind)}, mlx_lm has LORA alone", _TRAIN_PLAIN)
        return
    for key, meaning in _NOT_IN_MLX.items():
        if config.get(key):
            yield Obstacle(f"it has {key}: {meaning}", _TRAIN_PLAIN)
    if config.get("bias") not in (None, "none"):
        yield Obstacle(f"its bias is {quoted(config['bias'])}: mlx_lm's adapters have no biases", _TRAIN_PLAIN)
    for key in sorted(key for key in config if key.startswith("use_") and key not in _KNOWN_USES):
        if config[key]:
            yield Obstacle(f"it has {quoted(key)}, which changes what it computes", _TRAIN_PLAIN)
    beginning = config.get("init_lora_weights")
    if beginning not in _PLAIN_BEGINNINGS:
        yield Obstacle(f"its init_lora_weights is {quoted(beginning)}, which changes the base's own weights", _RESTORE)
    yield from _expressions(config)


def read_configuration(config: Mapping[str, Any]) -> PeftConfiguration:
    """The configuration of an adapter that has no obstacle.

    Raises:
        BadModelFileError: PEFT couldn't load the adapter by it.
    """
    return PeftConfiguration(
        rank=_rank("r", config.get("r", 8)),
        alpha=_number("lora_alpha", config.get("lora_alpha", 8)),
        ranks={key: _rank("rank_pattern", value) for key, value in _patterns(config, "rank_pattern").items()},
        alphas={key: _number("alpha_pattern", value) for key, value in _patterns(config, "alpha_pattern").items()},
        by_root=_flag(config, "use_rslora"),
        dora=_flag(config, "use_dora"),
        base_model=hub_name(config.get("base_model_name_or_path")),
    )


def _expressions(config: Mapping[str, Any]) -> Iterator[Obstacle]:
    for key in ("rank_pattern", "alpha_pattern"):
        strange = next((name for name in _patterns(config, key) if not _NAMES.fullmatch(name)), None)
        if strange is not None:
            yield Obstacle(f"its {key} has the regular expression {quoted(strange)}", _WRITE_OUT)


def _matches(pattern: str, module: str) -> bool:
    """As PEFT does: the whole name, or what follows one of its dots; `^` ties a pattern to the beginning."""
    name = pattern.replace("\\", "").removesuffix("$")
    return module == name.removeprefix("^") or (not name.startswith("^") and module.endswith(f".{name}"))


def _patterns(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = config.get(key) or {}
    if not isinstance(found, dict):
        raise _bad(f"{key} has to be a map from names of modules to numbers")
    return found


def _rank(key: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST_COUNT:
        raise _bad(f"a rank in {key} is {quoted(value)}: it has to be a whole number from 1")
    return value


def _number(key: str, value: Any) -> float:
    if not is_finite(value):
        raise _bad(f"a number in {key} is {quoted(value)}: it has to be a finite number")
    return float(value)


def _flag(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key, False)
    if value not in (None, True, False):
        raise _bad(f"{key} is {quoted(value)}: it has to be true or false")
    return bool(value)


def _bad(reason: str) -> BadModelFileError:
    return BadModelFileError(f"{ADAPTER_CONFIG}: {reason}")
