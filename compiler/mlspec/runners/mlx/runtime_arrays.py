"""A network's arrays: read from their file, cast, and put into their places, each of which must get one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten

from mlspec_runtime.errors import ServiceError

_MOST_NAMES = 8


def read(file: Path, dtype: mx.Dtype | None) -> dict[str, mx.array]:
    """The file's arrays by name, floats cast. They are read when they are used."""
    loaded = mx.load(str(file))
    if not isinstance(loaded, dict):
        raise ServiceError("load_failed", f"{file.name} holds no named arrays; save them as .safetensors or .npz", 503)
    return {name: _cast(array, dtype) for name, array in loaded.items()}


def _cast(array: mx.array, dtype: mx.Dtype | None) -> mx.array:
    if not mx.issubdtype(array.dtype, mx.floating):
        return array
    wanted = mx.float32 if dtype is None and array.dtype == mx.float64 else dtype
    # On the CPU: a GPU has no float64 to cast from.
    return array if wanted is None else array.astype(wanted, stream=mx.cpu)


def fill(network: Any, arrays: Mapping[str, mx.array]) -> None:
    """Give a network its arrays, all of them and no others. Raises ServiceError that names those that don't fit."""
    if isinstance(network, Module):
        _load(network, arrays)
    elif hasattr(network, "load"):
        mx.eval(list(arrays.values()))
        network.load(dict(arrays))
    else:
        message = f"{type(network).__name__} is no mlx.nn.Module and has no method load(arrays); give it one"
        raise ServiceError("load_failed", message, 503)


def _load(network: Any, arrays: Mapping[str, mx.array]) -> None:
    _check(network, arrays)
    network.load_weights(list(arrays.items()))
    network.eval()
    mx.eval(network.parameters())


def _check(network: Any, arrays: Mapping[str, mx.array]) -> None:
    parameters: dict[str, mx.array] = dict(tree_flatten(network.parameters()))
    places = {name: array.shape for name, array in parameters.items()}
    faults = [
        *_told("without an array", places.keys() - arrays.keys()),
        *_told("unknown to the class", arrays.keys() - places.keys()),
        *_shapes({n: (arrays[n].shape, places[n]) for n in places if n in arrays and arrays[n].shape != places[n]}),
    ]
    if faults:
        message = f"the file's arrays don't fit {type(network).__name__}: {'; '.join(faults)}"
        raise ServiceError("load_failed", f"{message}. Correct the class, its arguments or the file", 503)


def _told(what: str, names: Iterable[str]) -> list[str]:
    found = sorted(names)
    if not found:
        return []
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    return [f"{what}: {', '.join(found[:_MOST_NAMES])}{more}"]


def _shapes(differing: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> list[str]:
    told = _told(
        "of another shape", (f"{name} {list(has)}, not {list(wants)}" for name, (has, wants) in differing.items())
    )
    if any(_as_torch_has_it(*shapes) for shapes in differing.values()):
        told.append("PyTorch keeps a convolution's channels second, MLX last: move that axis to the end")
    return told


def _as_torch_has_it(has: tuple[int, ...], wants: tuple[int, ...]) -> bool:
    return len(has) > 2 and (has[0], *has[2:], has[1]) == wants
