"""What is known of a model without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlspec.model.calibration import Calibration
from mlspec.model.document import Pointer
from mlspec.model.spec import Source


@dataclass(frozen=True)
class ModelRef:
    """A model that a spec names: `role` is its name in plan and bundle (`base`, `adapters/support`)."""

    role: str
    source: Source
    pointer: Pointer


@dataclass(frozen=True)
class Located:
    """Where a model's files are on this computer. Never written into a bundle's files."""

    ref: ModelRef
    folder: Path


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: its whole content hashed, or of a tensor file the header alone."""

    path: str
    size_bytes: int
    sha256: str
    hashed: Literal["content", "header"]


@dataclass(frozen=True)
class ModelFacts:
    """One model's facts. `details` holds what its runner reads from configuration and headers (JSON data).

    `content` is the digest of all its files' whole content, where a lock tells it.
    """

    ref: ModelRef
    files: tuple[ModelFile, ...]
    parameter_bytes: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    content: str | None = None


@dataclass(frozen=True)
class Facts:
    """Of all models; `calibrations` are what was measured of them, for a target each."""

    models: tuple[ModelFacts, ...] = ()
    calibrations: tuple[Calibration, ...] = ()

    def of(self, role: str) -> ModelFacts:
        """The facts of the model with this role; a KeyError if the spec names none."""
        for facts in self.models:
            if facts.ref.role == role:
                return facts
        raise KeyError(role)
