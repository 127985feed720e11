"""Whether facts that come from a lock are as `inspect_base` and `inspect_adapter` make them: planning counts on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mlspec.runners.mlx_lm.architecture import Architecture
from mlspec.runners.mlx_lm.facts import LONGEST_CONTEXT
from mlspec.runners.mlx_lm.facts.adapter_config import LARGEST_COUNT
from mlspec.runners.mlx_lm.families.known import FAMILIES
from mlspec.runners.mlx_lm.packing import Packing
from mlspec.runners.mlx_lm.tensor_table import Row, size

_LARGEST = 2**63 - 1
_MOST_ALIKE = 10_000_000
"""Tensors in one row: a model of 1,000 layers with 1,000 experts each has a tenth of it."""
_MOST_LAYERS = 100_000
"""A hundred times those of the deepest model."""


@dataclass(frozen=True)
class _BaseDetails:
    __pydantic_config__ = ConfigDict(strict=True)

    model_type: str | None
    context_length: int | None
    layers: int | None
    vocabulary: int | None
    quantization: dict[Literal["bits", "group_size", "mode"], int | str] | None
    dtype: str | None
    families: tuple[str, ...]
    architecture: Architecture
    tensors: tuple[Row, ...]
    loaded: tuple[Row, ...] | None
    packing: Packing | None


@dataclass(frozen=True)
class _AdapterDetails:
    __pydantic_config__ = ConfigDict(strict=True)

    fine_tune_type: Literal["lora", "dora", "full"]
    num_layers: int | None
    base_model: str | None
    tensors: tuple[Row, ...]
    rank: int = 1
    scale: float = 1.0
    dropout: float = 0.0
    keys: tuple[str, ...] = ()
    format: Literal["peft"] | None = None


def check_base(details: Mapping[str, Any]) -> None:
    """That a base model's details can be planned with. Raises ValueError, whose message names the first that can't."""
    found = _typed(_BaseDetails, details)
    _read(Architecture.from_data, details["architecture"], "architecture")
    for name in ("tensors", "loaded"):
        _check_rows(name, details[name] or ())
    if found.context_length is not None and not 1 <= found.context_length <= LONGEST_CONTEXT:
        raise ValueError("context_length can't be")
    if any(number < 0 for number in _numbers(details)) or not _has_size(found.architecture):
        raise ValueError("a number in it can't be")
    if unknown := set(found.families) - FAMILIES.keys():
        raise ValueError(f"families has {min(unknown)!r}")
    if found.packing is not None:
        _check_packing(found.packing)


def check_adapter(details: Mapping[str, Any]) -> None:
    """The same of an adapter's details."""
    found = _typed(_AdapterDetails, details)
    _check_rows("tensors", details["tensors"])
    if found.rank < 1:
        raise ValueError("rank can't be")


def _typed(kind: type[Any], details: Mapping[str, Any]) -> Any:
    """As JSON, so that a list may stand for a tuple, and nothing else for another thing."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(dict(details)))
    except ValidationError as problem:
        place = ".".join(map(str, problem.errors(include_url=False, include_input=False)[0]["loc"]))
        raise ValueError(f"{place} isn't as it should be") from problem


def _read(read: Any, data: Any, name: str) -> Any:
    try:
        return read(data)
    except (TypeError, KeyError, ValueError) as problem:
        raise ValueError(f"{name} can't be read") from problem


def _check_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for index, data in enumerate(rows):
        row = _read(Row.from_data, data, f"{name}.{index}")
        if not _can_be(row):
            raise ValueError(f"{name}.{index} can't be")


def _can_be(row: Row) -> bool:
    if not 1 <= row.count <= _MOST_ALIKE or not all(0 <= length <= _LARGEST for length in row.shape):
        return False
    if row.layers is None:
        return True
    in_order = bool(row.layers) and all(0 <= first <= last for first, last in row.layers)
    return in_order and size(row.layers) <= row.count


def _has_size(architecture: Architecture) -> bool:
    """Whether a plan ends: it goes through the layers, and tries contexts and steps by what they take."""
    widths = (architecture.hidden, architecture.heads, architecture.head_dim, architecture.intermediate)
    parts = [number for group in architecture.keeps for number in vars(group).values() if type(number) is int]
    layers = [architecture.layers, *(group.count for group in architecture.keeps)]
    return max(layers) <= _MOST_LAYERS and max(*widths, architecture.vocabulary, *parts) <= LARGEST_COUNT


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int | float):
        yield value


def _check_packing(packing: Packing) -> None:
    for settings in (packing.settings, *(module.settings or {} for module in packing.modules)):
        # What can't be is left out in reading.
        if Packing.of({"quantization": settings}).settings != settings:
            raise ValueError("packing isn't as it should be")
