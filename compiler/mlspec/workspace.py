"""The project that a spec belongs to, and where its models may be read from on this computer.

`Surroundings` holds all that comes from the environment; the command line makes it once, the passes get values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.model.document import Document
from mlspec.model.project import ProjectFile

if TYPE_CHECKING:
    from mlspec.hardware.machines import Found

PROJECT_FILE = "mlspec.yaml"


@dataclass(frozen=True)
class Surroundings:
    """What the passes may know of this computer. `roots` are bindings given by `--root NAME=DIR`.

    `this_machine` looks at the hardware, for specs that say `machine: auto`; `reproducible` refuses those.
    """

    environment: Mapping[str, str]
    working_folder: Path
    home: Path
    roots: Mapping[str, Path] = field(default_factory=dict)
    this_machine: Callable[[], Found] | None = None
    reproducible: bool = False

    def shown(self, path: Path) -> str:
        """A path as the user would type it here."""
        return str(path.relative_to(self.working_folder) if path.is_relative_to(self.working_folder) else path)

    @property
    def hub_cache(self) -> Path:
        """Hugging Face's cache, found by the same variables that huggingface_hub reads."""
        if given := self.environment.get("HF_HUB_CACHE"):
            return Path(given)
        home = self.environment.get("HF_HOME") or str(self._cache_home / "huggingface")
        return Path(home) / "hub"

    @property
    def model_store(self) -> Path:
        """The models folder of BentoML's store."""
        return Path(self.environment.get("BENTOML_HOME") or self.home / "bentoml") / "models"

    @property
    def template_cache(self) -> Path:
        """Where compiled templates are kept between builds."""
        return self._cache_home / "mlspec" / "templates"

    @property
    def derived_models(self) -> Path:
        """The store of models that builds made of others."""
        return self._cache_home / "mlspec" / "models"

    @property
    def digests(self) -> Path:
        """Where the digests of weights are remembered."""
        return self._cache_home / "mlspec" / "digests"

    @property
    def _cache_home(self) -> Path:
        given = Path(self.environment.get("XDG_CACHE_HOME", ""))
        # A relative one is to be ignored (XDG Base Directory Specification).
        return given if given.is_absolute() else self.home / ".cache"


@dataclass(frozen=True)
class Workspace:
    """A project on this computer: `roots` binds each declared root, to None where nothing binds it.

    `this_machine` is None where what is compiled must not depend on the computer.
    """

    root: Path
    file: ProjectFile
    document: Document | None
    """`mlspec.yaml`, if there is one."""
    roots: Mapping[str, Path | None]
    hub_cache: Path
    model_store: Path
    this_machine: Callable[[], Found] | None

    @property
    def templates(self) -> Path | None:
        return self.root / self.file.templates if self.file.templates else None
