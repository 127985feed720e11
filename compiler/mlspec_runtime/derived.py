"""A model that the build made of another: the file in its folder that says of which one, and how.

A service checks sizes, small files and headers, as of any model: it starts without reading the weights. A byte that
changed in them is seen by the next build, for which the same file has the digests of whole contents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlspec_runtime.plan import PlannedFile, PlannedModel

MANIFEST = "mlspec-derived.json"
MANIFEST_VERSION = 1
_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True)
class Manifest:
    """`key` and `settings` as the plan has them; `content` is the digest of the model that it was made of, `files` are
    those that were made.
    """

    version: int
    key: str
    content: str
    settings: Mapping[str, Any]
    files: tuple[PlannedFile, ...]


def files_to_check(model: PlannedModel, folder: Path) -> tuple[PlannedFile, ...]:
    """The files that the served model must have: the plan's, or of one that was made by the build its own list's.

    Raises:
        ValueError: the folder's model isn't made as the plan says; the message goes on from the model's name.
    """
    if model.derived is None:
        return model.files
    manifest = _read(folder / MANIFEST)
    if manifest.key != model.derived.key:
        raise ValueError("was made of another model, or with other settings")
    if model.content not in (None, manifest.content):
        raise ValueError("was made of a model with other weights")
    return manifest.files


def _read(path: Path) -> Manifest:
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT_BYTES)
        manifest = TypeAdapter(Manifest).validate_json(content)
    except OSError as error:
        raise ValueError(f"has no {MANIFEST}, by which a build marks what it made: {error.strerror}") from error
    except ValidationError as error:
        raise ValueError(f"has a {MANIFEST} that can't be read") from error
    if manifest.version != MANIFEST_VERSION:
        raise ValueError(f"has a {MANIFEST} of version {manifest.version}; read is {MANIFEST_VERSION}")
    return manifest
