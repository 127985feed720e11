"""What a lock says of a network, held against what `inspect` makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.characters import quoted
from mlspec.model.facts import ModelRef
from mlspec.model.signature import Tensor
from mlspec.tensors.artifacts import ArtifactRef

_FORMATS = ("safetensors", "state-dict", "exported")


def believe(ref: ModelRef, details: Mapping[str, Any]) -> None:
    """That details from a lock are as `inspect` makes them, and of the file that the spec names. Raises ValueError."""
    name = ref.file if isinstance(ref, ArtifactRef) else None
    if not isinstance(details.get("file"), str):
        raise ValueError("it names no file")
    if name is not None and details["file"] != name:
        raise ValueError(f"it is of {quoted(details['file'])}, and the spec names {quoted(name)}")
    if details.get("format") not in _FORMATS:
        raise ValueError(f"format is none of {', '.join(_FORMATS)}")
    if details["format"] == "exported":
        _believe_signature(details.get("signature"))
    elif not _are_sizes(details.get("dtypes")):
        raise ValueError("dtypes has no sizes in bytes")


def _are_sizes(dtypes: Any) -> bool:
    return isinstance(dtypes, Mapping) and all(type(size) is int and size >= 0 for size in dtypes.values())


def _believe_signature(signature: Any) -> None:
    if not isinstance(signature, Mapping) or set(signature) != {"inputs", "outputs"}:
        raise ValueError("signature has no inputs and outputs")
    for tensors in signature.values():
        if not isinstance(tensors, list) or not all(isinstance(one, Mapping) for one in tensors):
            raise ValueError("signature holds no tensors")
        for one in tensors:
            Tensor(**{**one, "dtype": "float32" if one.get("dtype") == "bfloat16" else one.get("dtype")})
