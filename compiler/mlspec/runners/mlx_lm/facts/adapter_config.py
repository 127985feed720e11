"""What an adapter's configuration says, checked as mlx_lm and the service need it, before either has it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.model_files import BadModelFileError
from mlspec.suggest import listed

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapters.safetensors"

LEAVES: Mapping[str, frozenset[str]] = {
    "lora": frozenset({"lora_a", "lora_b"}),
    "dora": frozenset({"lora_a", "lora_b", "m"}),
}
"""The last parts of the names of an adapter's tensors, by its kind. One of kind `full` has the base's own names."""

KINDS = (*LEAVES, "full")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_FOLDERS = frozenset({"models", "model", "outputs", "output", "checkpoints", "weights", "data", "specs", "base", "mlx"})
_LONGEST_KEY = 200
_MOST_KEYS = 1000
LARGEST_COUNT = 2**31 - 1


def adapter_details(config: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of an adapter's configuration: finite numbers and short words, so that any plan can hold them.

    Raises:
        BadModelFileError: mlx_lm couldn't load the adapter by this configuration.
    """
    kind, layers = config["fine_tune_type"], config.get("num_layers")
    if kind not in KINDS:
        raise _bad(f"fine_tune_type is {quoted(kind)}: it has to be {listed(KINDS, 'or')}")
    if layers is not None and (type(layers) is not int or abs(layers) > LARGEST_COUNT):
        raise _bad(f"num_layers is {quoted(layers)}: it has to be a whole number")
    return {
        "fine_tune_type": kind,
        "num_layers": layers,
        **_parameters(kind, config.get("lora_parameters")),
        "base_model": hub_name(config.get("model")),
    }


def check_tensors(kind: str, names: Iterable[str]) -> None:
    """That an adapter holds the tensors of its kind.

    Raises:
        BadModelFileError: it holds others, or none.
    """
    leaves = {name.rpartition(".")[2]: name for name in names}
    if not leaves:
        raise BadModelFileError(f"{ADAPTER_WEIGHTS}: holds no tensor")
    strange = leaves.keys() - LEAVES[kind] if kind != "full" else leaves.keys() & {"lora_a", "lora_b"}
    if strange:
        name = quoted(leaves[min(strange)])
        raise _bad(f"fine_tune_type is {kind}, but {ADAPTER_WEIGHTS} holds {name}, no tensor of that kind")
    if lacking := LEAVES.get(kind, frozenset()) - leaves.keys():
        raise _bad(f"fine_tune_type is {kind}, but {ADAPTER_WEIGHTS} holds no tensor '….{min(lacking)}'")


def _parameters(kind: str, parameters: object) -> dict[str, Any]:
    """Of the lora_parameters what mlx_lm reads. An adapter of kind `full` has none: training writes null."""
    if kind == "full":
        return {}
    if not isinstance(parameters, dict):
        raise _bad("lora_parameters has to be a map with rank and scale")
    rank, scale, keys = (parameters.get(name) for name in ("rank", "scale", "keys"))
    if type(rank) is not int or not 1 <= rank <= LARGEST_COUNT:
        raise _bad(f"the rank in lora_parameters is {quoted(rank)}: it has to be a whole number from 1")
    if not is_finite(scale):
        raise _bad(f"the scale in lora_parameters is {quoted(scale)}: it has to be a finite number")
    if keys is not None and not (isinstance(keys, list) and all(isinstance(key, str) for key in keys)):
        raise _bad("the keys in lora_parameters have to be a list of names")
    named = {} if keys is None else {"keys": sorted({visible(key)[:_LONGEST_KEY] for key in keys})[:_MOST_KEYS]}
    return {"rank": rank, "scale": scale} | _dropout(parameters.get("dropout")) | named


def _dropout(value: object) -> dict[str, Any]:
    """It is for training; mlx_lm takes it all the same."""
    if value is None:
        return {}
    if not is_finite(value):
        raise _bad(f"the dropout in lora_parameters is {quoted(value)}: it has to be a finite number")
    return {"dropout": value}


def hub_name(value: object) -> str | None:
    """The base that the adapter was trained on, where it is named as on the hub. A path on somebody's computer is none
    of ours, and a relative one of two parts looks like a name: those that begin as folders mostly do are left out.
    """
    if not isinstance(value, str) or not _HUB_NAME.fullmatch(value):
        return None
    return None if value.partition("/")[0].lower() in _FOLDERS else value


def is_finite(value: object) -> bool:
    """Whether it is a number that a float holds."""
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number that no float can hold
        return False


def _bad(reason: str) -> BadModelFileError:
    return BadModelFileError(f"{ADAPTER_CONFIG}: {reason}")
