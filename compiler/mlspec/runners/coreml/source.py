"""What a conversion starts from: the tensors' file by its header, or an exported program, and the code beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlspec.model.facts import ModelFacts, ModelRef
from mlspec.model_files import fingerprint, read_tensors
from mlspec.runners.coreml.model import SAFETENSORS


def read_source(ref: ModelRef, folder: Path, name: str, code: Sequence[str]) -> ModelFacts:
    """The facts of the file `name` and of the code that is run with it. `details`: `source`, the file's name.

    Raises:
        BadModelFileError: one of them isn't there, or not what its name says.
        OSError: one can't be read.
    """
    files = fingerprint(folder, {name, *code})
    if name.endswith(SAFETENSORS):
        size_bytes = sum(tensor.size_bytes for tensor in read_tensors(folder, name)[1].values())
    else:
        size_bytes = next(file.size_bytes for file in files if file.path == name)
    return ModelFacts(ref, files, size_bytes, {"source": name})


def believe_source(details: Mapping[str, Any]) -> None:
    """That details from a lock are as `read_source` makes them. Raises ValueError."""
    if set(details) != {"source"} or type(details["source"]) is not str:
        raise ValueError("not the facts of what is converted")
