"""What is known of a file of arrays by its headers: how many floats of each type it holds, and how much else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.model.facts import ModelFacts, ModelFile, ModelRef
from mlspec.model_files import Tensor, fingerprint, read_tensors
from mlspec.runners.mlx.npz import npz_arrays

ENDINGS = (".safetensors", ".npz")
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
"""As safetensors calls them, and as MLX does."""
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Arrays:
    """`floats` counts elements by type (MLX's names); `other_bytes` have all arrays of another kind."""

    file: str
    floats: Mapping[str, int]
    other_bytes: int

    @staticmethod
    def of(facts: ModelFacts) -> Arrays:
        return Arrays(**facts.details)

    @property
    def stored_type(self) -> str | None:
        """The type of its floats; None if there are several, or none."""
        return next(iter(self.floats)) if len(self.floats) == 1 else None

    def bytes_as(self, dtype: str | None) -> int:
        """What they take once their floats are cast; None: not at all."""
        return self.other_bytes + sum(count * SIZES[dtype or own] for own, count in self.floats.items())


def read_facts(ref: ModelRef, folder: Path, name: str) -> ModelFacts:
    """The facts of the file `name` of the folder.

    Raises:
        BadModelFileError: it isn't there, or not what its name says.
        OSError: it can't be read.
    """
    file, tensors = _read(folder, name)
    floats, other_bytes = Counter[str](), 0
    for tensor in tensors.values():
        if tensor.dtype in FLOATS:
            floats[FLOATS[tensor.dtype]] += math.prod(tensor.shape)
        else:
            other_bytes += tensor.size_bytes
    details = {"file": name, "floats": dict(sorted(floats.items())), "other_bytes": other_bytes}
    return ModelFacts(ref, (file,), sum(tensor.size_bytes for tensor in tensors.values()), details)


def _read(folder: Path, name: str) -> tuple[ModelFile, Mapping[str, Tensor]]:
    if name.endswith(".safetensors"):
        return read_tensors(folder, name)
    arrays = npz_arrays(folder / name)
    return fingerprint(folder, (name,))[0], arrays


def believe(details: Mapping[str, Any]) -> None:
    """That details from a lock are as `read_facts` makes them. Raises ValueError."""
    if set(details) != {"file", "floats", "other_bytes"} or type(details["file"]) is not str:
        raise ValueError("not the facts of a file of arrays")
    floats = details["floats"]
    if not isinstance(floats, dict) or not set(floats) <= set(SIZES):
        raise ValueError("floats: no types of floats")
    for count in (*floats.values(), details["other_bytes"]):
        if type(count) is not int or count < 0:
            raise ValueError("no counts of elements")
