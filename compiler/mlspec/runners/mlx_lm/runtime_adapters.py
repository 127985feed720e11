"""Adapters of one base model in memory: the layers are wrapped once, a swap exchanges their tensors in place.

`mlx_lm.tuner.utils.load_adapters` is for one adapter: called twice it nests LoRA in LoRA without a word, and
tensors that the second adapter lacks would stay from the first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlspec_runtime.errors import ServiceError

BASE = "base"
_LEAVES = ("lora_a", "lora_b", "m")
_IN_LAYER = re.compile(r"(?:.*\.)?layers\.(\d+)\.(.+)")


@dataclass(frozen=True)
class _Adapter:
    name: str
    kind: str
    scale: float
    rank: int
    tensors: Mapping[str, mx.array]

    def modules(self) -> set[str]:
        """The modules it adapts, by their path in the model."""
        return {name.rpartition(".")[0] for name in self.tensors}


class Adapters:
    """The adapters of `model`, by name; "base" is none. Their tensors are cast to `dtype`, if one is given. Used by the
    engine's thread alone.
    """

    def __init__(self, model: Any, folders: Mapping[str, Path], dtype: mx.Dtype | None = None) -> None:
        self._model = model
        self._adapters = {name: _read(name, folder, dtype) for name, folder in folders.items()}
        self._pristine: dict[str, mx.array] = {}
        if self._adapters:
            self._wrap()

    def _wrap(self) -> None:
        adapters = list(self._adapters.values())
        kinds = {adapter.kind for adapter in adapters}
        if len(kinds) > 1:
            told = ", ".join(f"{adapter.name} is {adapter.kind}" for adapter in adapters)
            raise _misfit(f"one service can't swap adapters of different kinds ({told})")
        if kinds != {"full"}:
            _wrap_layers(self._model, adapters, use_dora=kinds == {"dora"})
        self._model.eval()
        parameters = dict(tree_flatten(self._model.parameters()))
        for adapter in adapters:
            _check_fit(adapter, parameters)
        touched = {name for adapter in adapters for name in adapter.tensors}
        leaves = {name for name in parameters if name.rpartition(".")[2] in _LEAVES}
        self._pristine = {name: parameters[name] for name in touched | leaves}
        mx.eval(list(self._pristine.values()), [list(adapter.tensors.values()) for adapter in adapters])

    def select(self, name: str) -> None:
        """Make the model generate with this adapter: its tensors, and for all else that any adapter touches
        the base's own. No request may be in flight.
        """
        if not self._adapters:
            return
        adapter = self._adapters.get(name)
        tensors = {**self._pristine, **(adapter.tensors if adapter else {})}
        self._model.load_weights(list(tensors.items()), strict=False)
        if adapter is None:
            return
        # The scale is an attribute of the layer, no tensor.
        for _, module in self._model.named_modules():
            if "lora_b" in module:
                module.scale = adapter.scale


def _read(name: str, folder: Path, dtype: mx.Dtype | None) -> _Adapter:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    parameters = config.get("lora_parameters") or {}
    return _Adapter(
        name=name,
        kind=config.get("fine_tune_type", "lora"),
        scale=float(parameters.get("scale", 1.0)),
        rank=int(parameters.get("rank", 8)),
        tensors=_tensors(folder / "adapters.safetensors", dtype),
    )


def _tensors(path: Path, dtype: mx.Dtype | None) -> dict[str, mx.array]:
    tensors = mx.load(str(path))
    assert isinstance(tensors, dict)  # noqa: S101 - a safetensors file
    if dtype is None:
        return tensors
    return {name: tensor.astype(dtype) for name, tensor in tensors.items()}


def _wrap_layers(model: Any, adapters: Sequence[_Adapter], *, use_dora: bool) -> None:
    """Wrap what any adapter adapts. Where one has no tensors, zeros make the wrapped layer equal to the
    base's.
    """
    paths = sorted(set().union(*(adapter.modules() for adapter in adapters)))
    matches = [(path, _IN_LAYER.fullmatch(path)) for path in paths]
    keys = {match[2] if match else path for path, match in matches}
    first = min((int(match[1]) for _, match in matches if match), default=len(model.layers))
    config = {"rank": adapters[0].rank, "scale": adapters[0].scale, "dropout": 0.0, "keys": keys}
    linear_to_lora_layers(model, len(model.layers) - first, config, use_dora=use_dora)


def _check_fit(adapter: _Adapter, parameters: Mapping[str, mx.array]) -> None:
    for name, tensor in adapter.tensors.items():
        own = parameters.get(name)
        leaf = name.rpartition(".")[2]
        if own is None or (adapter.kind != "full" and leaf not in _LEAVES):
            raise _misfit(f"adapter '{adapter.name}': the base model has no place for its tensor {name}")
        if _without_rank(leaf, tensor.shape) != _without_rank(leaf, own.shape):
            raise _misfit(
                f"adapter '{adapter.name}': {name} has the shape {tuple(tensor.shape)}, the base model "
                f"wants {tuple(own.shape)}"
            )


def _without_rank(leaf: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape, its rank left out: adapters of one model may differ in that."""
    if leaf == "lora_a":
        return tuple(shape[:-1])
    if leaf == "lora_b":
        return tuple(shape[1:])
    return tuple(shape)


def _misfit(message: str) -> ServiceError:
    return ServiceError("adapter_misfit", f"{message}; correct the spec and build again", 503)
