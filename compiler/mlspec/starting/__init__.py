"""Where a project begins: a first spec for a model's folder, or the example that mlspec ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """The files and folders that were written, and what to tell the user of them."""

    paths: tuple[Path, ...]
    messages: tuple[str, ...] = ()
