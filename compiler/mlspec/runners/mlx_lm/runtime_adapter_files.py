"""An adapter's folder in mlx_lm's format, read at start (what it is) and when it is loaded (its tensors)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mlx.core as mx

from mlspec_runtime.errors import ServiceError

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
LORA_A, LORA_B, MAGNITUDE = "lora_a", "lora_b", "m"
LEAVES = {"lora": (LORA_A, LORA_B), "dora": (LORA_A, LORA_B, MAGNITUDE)}
"""The last parts of the names of an adapter's tensors, by its kind."""
FULL = "full"
"""The kind whose tensors are the base's own."""

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Adapter:
    """What is known of an adapter without its tensors: their shapes and types by name, and its files' `stamp`."""

    name: str
    folder: Path
    kind: str
    scale: float
    rank: int
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, mx.Dtype]
    stamp: Stamp

    @cached_property
    def modules(self) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
        """The shapes of its tensors by the last part of their names, for each module that it adapts."""
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, shape in self.shapes.items():
            path, _, leaf = name.rpartition(".")
            found.setdefault(path, {})[leaf] = shape
        return found


def outline(name: str, folder: Path) -> Adapter:
    """What an adapter is; of its weights the header is read. Raises ServiceError, OSError, ValueError, RuntimeError."""
    stamp = _stamp(folder)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    parameters = config.get("lora_parameters") or {}
    kind = config.get("fine_tune_type", "lora")
    if kind not in (*LEAVES, FULL):
        raise misfit(f"adapter '{name}' is of a kind that the service doesn't know")
    tensors = _lazily(folder)
    return Adapter(
        name=name,
        folder=folder,
        kind=kind,
        scale=float(parameters.get("scale", 1.0)),
        rank=int(parameters.get("rank", 8)),
        shapes={key: tuple(tensor.shape) for key, tensor in tensors.items()},
        dtypes={key: tensor.dtype for key, tensor in tensors.items()},
        stamp=stamp,
    )


def tensors(adapter: Adapter, dtype: mx.Dtype | None) -> dict[str, mx.array]:
    """Its tensors, cast to `dtype` if one is given; they are read as they are evaluated.

    Raises:
        ServiceError: 503, the files are not those of the start any more.
    """
    try:
        if _stamp(adapter.folder) != adapter.stamp:
            raise _unavailable(adapter.name, "its files have changed since the service started")
        found = _lazily(adapter.folder)
    except (OSError, RuntimeError) as problem:
        raise _unavailable(adapter.name, f"its files can't be read ({type(problem).__name__})") from problem
    return found if dtype is None else {name: tensor.astype(dtype) for name, tensor in found.items()}


def check_shape(adapter: Adapter, name: str, wanted: Sequence[int | None]) -> None:
    """That a tensor has this shape, but where that is open. Raises ServiceError."""
    shape = adapter.shapes[name]
    if len(shape) != len(wanted) or any(w not in (None, s) for s, w in zip(shape, wanted, strict=True)):
        told = tuple(adapter.rank if length is None else length for length in wanted)
        raise misfit(f"adapter '{adapter.name}': {name} has the shape {shape}, the base model wants {told}")


def misfit(message: str) -> ServiceError:
    """An adapter that isn't one of this base."""
    return ServiceError("adapter_misfit", f"{message}; correct the spec and build again", 503)


def no_place(adapter: Adapter, name: str) -> ServiceError:
    """A tensor for which the base has nothing."""
    return misfit(f"adapter '{adapter.name}': the base model has no place for its tensor {name}")


def _lazily(folder: Path) -> dict[str, mx.array]:
    found = mx.load(str(folder / WEIGHTS))
    assert isinstance(found, dict)  # noqa: S101 - a safetensors file
    return found


def _stamp(folder: Path) -> Stamp:
    """Size, time and place of both files: another is another file."""
    states = [(folder / name).stat() for name in (CONFIG, WEIGHTS)]
    return tuple((state.st_size, state.st_mtime_ns, state.st_ino) for state in states)


def _unavailable(name: str, why: str) -> ServiceError:
    message = f"adapter '{name}' can't be loaded: {why}; restore them or build again, and restart the service"
    return ServiceError("adapter_unavailable", message, 503)
