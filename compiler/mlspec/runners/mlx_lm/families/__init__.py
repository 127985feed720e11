"""The shape of a language model, from its configuration and the headers of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from mlspec.model_files import Tensor
from mlspec.runners.mlx_lm.architecture import Architecture
from mlspec.runners.mlx_lm.families.caches import merged
from mlspec.runners.mlx_lm.families.config import Config, UnreadableConfigError
from mlspec.runners.mlx_lm.families.counts import counted
from mlspec.runners.mlx_lm.families.estimate import estimated_keeps, estimated_layers, some_config
from mlspec.runners.mlx_lm.families.known import FAMILIES, FIRST_STEPS, REMAPPED, REMAPPED_ARCHITECTURES
from mlspec.runners.mlx_lm.families.row import Family
from mlspec.runners.mlx_lm.packing import Packing
from mlspec.runners.mlx_lm.tensor_table import Row, table


@dataclass(frozen=True)
class Shape:
    """What was found of a model. `families` are the names of its family and of that in it, if it sees; none if mlspec
    doesn't know it. `unreadable` is the key of the configuration that a known family couldn't be read by. `loaded` are
    the model's tensors as mlx_lm has them in memory, `stored` as they lie in the files.
    """

    families: tuple[str, ...]
    unreadable: str | None
    architecture: Architecture
    stored: tuple[Row, ...]
    loaded: tuple[Row, ...]


def architecture(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Architecture:
    """The shape of a model by its config.json and its tensors' headers. Nothing in either is believed to be right.

    Raises:
        BadModelFileError: the tensors can't be those of a model.
    """
    return shape_of(config, tensors).architecture


def shape_of(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Shape:
    """As `architecture`, with the tensors in rows.

    Raises:
        BadModelFileError: the tensors can't be those of a model.
    """
    stored = table(tensors)
    names, read = family_of(config)
    families = rules(names)
    try:
        loaded = _loaded(stored, families, read)
        keeps = merged(families[-1].keeps(read)) if families else None
        layers, unreadable = read.layers if families else 0, None
    except UnreadableConfigError as problem:
        loaded, keeps, layers, unreadable = stored, None, 0, problem.key
    known = keeps is not None
    read = read if known else some_config(config)
    keeps = keeps if keeps is not None else estimated_keeps(stored, read)
    found = counted(loaded, read, Packing.of(config), known, layers or estimated_layers(stored), keeps)
    return Shape(names, unreadable, found, stored, loaded)


def family_of(config: Mapping[str, Any]) -> tuple[tuple[str, ...], Config]:
    """The names of the model's family and of that in it, if it sees, and how the configuration is read. There is no
    name if it is no family that mlspec knows.
    """
    name, text = _name(config), _text(config)
    if name not in FAMILIES:
        return (), Config(config if text is None else {**config, **text})
    inside = FAMILIES[name].inside
    names = (name, _inside(inside, text or {})) if inside else (name,)
    inner = FAMILIES[names[-1]]
    defaults = {**inner.defaults, **FAMILIES[name].defaults}
    return names, Config(config if text is None else text, inner.names, defaults, inner.own_head_dim)


def rules(names: Sequence[str]) -> tuple[Family, ...]:
    """What is known of the families of these names."""
    return tuple(FAMILIES[name] for name in names if name in FAMILIES)


def _name(config: Mapping[str, Any]) -> str:
    name, architectures = config.get("model_type"), config.get("architectures")
    for architecture in architectures if isinstance(architectures, list) else [architectures]:
        if isinstance(name, str) and isinstance(architecture, str) and (name, architecture) in REMAPPED_ARCHITECTURES:
            return REMAPPED_ARCHITECTURES[name, architecture]
    return REMAPPED.get(name, name) if isinstance(name, str) else ""


def _text(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    text = config.get("text_config")
    return text if isinstance(text, dict) else None


def _inside(inside: Mapping[str, str], text: Mapping[str, Any]) -> str:
    kind = text.get("model_type")
    return inside.get(kind if isinstance(kind, str) else "", inside[""])


def _loaded(rows: tuple[Row, ...], families: tuple[Family, ...], config: Config) -> tuple[Row, ...]:
    if not families:
        return rows
    loaded = list(rows)
    for step in chain(FIRST_STEPS, *(family.loads for family in families)):
        loaded = step(loaded, config)
    return tuple(loaded)
