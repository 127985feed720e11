"""A network's tensors: read from their file as data, and put into the network if they are all of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mlspec_runtime.errors import ServiceError

LOG = logging.getLogger("mlspec.torch")
_MOST_NAMES = 5
_WRAPPERS = {
    "module.": "saved from DataParallel: save network.module.state_dict()",
    "_orig_mod.": "saved from a compiled network: save network._orig_mod.state_dict()",
}


def read_state(path: Path, format: str) -> dict[str, Any]:
    """The tensors by name, mapped from the file rather than read. Raises ServiceError for what is no state dict."""
    try:
        if format == "safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # Each library has exceptions of its own for a broken file.
    except Exception as problem:
        LOG.exception("%s can't be read", path.name)
        raise _failed(f"{path.name} can't be read ({type(problem).__name__}); the server's log says why") from problem
    if not isinstance(found, dict):
        raise _failed(f"{path.name} holds no state dict; save network.state_dict()")
    return found


def fill(network: torch.nn.Module, state: Mapping[str, Any], file: str) -> None:
    """Put the tensors into the network. Raises ServiceError unless they are its own: all of them, and no others."""
    name, wanted = type(network).__name__, network.state_dict()
    present = {_place(wanted[key]) for key in state if key in wanted}
    lacking = [key for key in wanted if key not in state and _place(wanted[key]) not in present]
    strange = [key for key in state if key not in wanted]
    unlike = [key for key in state if key in wanted and _shape(state[key]) != _shape(wanted[key])]
    faults = [
        lacking and f"it lacks {_counted(lacking)}",
        strange and f"{name} has no {_counted(strange)}",
        unlike and f"other shapes: {_listed([_told(key, state, wanted, name) for key in unlike])}",
    ]
    if any(faults):
        told = "; ".join(fault for fault in faults if fault)
        raise _failed(f"{file} doesn't fit {name}: {told}. {_remedy(strange, state)}")
    network.load_state_dict(dict(state), strict=False)


def _place(tensor: Any) -> tuple[int, tuple[int, ...]]:
    """Equal for tied tensors, of which a file holds one."""
    return (tensor.data_ptr(), _shape(tensor)) if isinstance(tensor, torch.Tensor) else (id(tensor), ())


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else ()


def _told(key: str, state: Mapping[str, Any], wanted: Mapping[str, Any], name: str) -> str:
    return f"{key} is {list(_shape(state[key]))}, in {name} {list(_shape(wanted[key]))}"


def _counted(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} ({_listed(names)})"


def _listed(names: Iterable[str]) -> str:
    items = list(names)
    return ", ".join(items[:_MOST_NAMES]) + (", …" if items[_MOST_NAMES:] else "")


def _remedy(strange: list[str], state: Mapping[str, Any]) -> str:
    for prefix, remedy in _WRAPPERS.items():
        if strange and all(key.startswith(prefix) for key in state):
            return f"All of its names begin with '{prefix}': {remedy}"
    return "Correct the class, its arguments, or the file that the spec names"


def _failed(message: str) -> ServiceError:
    return ServiceError("load_failed", message, 503)
