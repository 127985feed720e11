"""Where a first spec is written, and the folder that it is about."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mlspec.characters import FORBIDDEN, quoted
from mlspec.errors import CommandError
from mlspec.passes.project import root_of
from mlspec.starting.spec_text import dns_label


@dataclass(frozen=True)
class Start:
    """Where the user stands: `here` is the working folder, `cache` Hugging Face's."""

    here: Path
    cache: Path

    @property
    def root(self) -> Path:
        return root_of(self.here)

    def in_project(self, path: Path) -> str | None:
        """The path as a spec writes it; None if it is outside the project, or a link leads out."""
        place = Path(os.path.normpath(path))
        if not place.is_relative_to(self.root) or not place.resolve().is_relative_to(self.root.resolve()):
            return None
        return place.relative_to(self.root).as_posix()

    def shown(self, path: Path) -> str:
        return str(path.relative_to(self.here) if path.is_relative_to(self.here) else path)


@dataclass(frozen=True)
class ModelFolder:
    """A folder that the user named; `shown` is how."""

    folder: Path
    shown: str
    start: Start

    @property
    def label(self) -> str:
        """What a service of it may be called."""
        return dns_label(self.folder.resolve().name, "my-model")

    def path(self, below: str = "") -> str:
        """The folder, or a file in it, as the spec writes it.

        Raises:
            CommandError: it is outside the project, or has a name that no spec may hold.
        """
        path = self.start.in_project(self.folder / below)
        if path is None:
            message = f"{quoted(str(self.folder / below))} is outside the project {self.start.root}"
            help = "copy it into the project, or declare the place as a root in mlspec.yaml and write {root, path}"
            raise CommandError("path-outside", message, help)
        if path == ".":
            help = "put the model into a folder of its own"
            raise CommandError("path-outside", "the model lies in the project's root itself", help)
        if FORBIDDEN.search(path) or any(c in path for c in "\\\t\n\r"):
            message = f"{quoted(path)} has a character that a path in a spec may not hold"
            raise CommandError("path-outside", message, "rename the folder" if not below else "rename the file")
        return path
