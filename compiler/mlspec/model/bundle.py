"""What a build writes for one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MARK = "plan.json"
"""The file by which a folder is known to be a bundle, and so may be replaced."""


@dataclass(frozen=True)
class Bundle:
    """All files of a bundle by their path in it, and its machine-local links to models.

    `folder` is where it goes below the output folder.
    """

    folder: str
    files: Mapping[str, bytes]
    links: Mapping[str, Path]
