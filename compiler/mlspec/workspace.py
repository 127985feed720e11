"""The project that a spec belongs to, and where its models may be read from on this computer.

All that comes from the environment is looked up here, once, by the command line: the passes get values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlspec.diagnostics import Report
from mlspec.model.project import ProjectFile

PROJECT_FILE = "mlspec.yaml"


@dataclass(frozen=True)
class Surroundings:
    """What the passes may know of this computer. `roots` are bindings given by `--root NAME=DIR`."""

    environment: Mapping[str, str]
    working_folder: Path
    home: Path
    roots: Mapping[str, Path] = field(default_factory=dict)

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
    def _cache_home(self) -> Path:
        return Path(self.environment.get("XDG_CACHE_HOME") or self.home / ".cache")


@dataclass(frozen=True)
class Workspace:
    """A project on this computer: `roots` binds each declared root, to None where nothing binds it."""

    root: Path
    file: ProjectFile
    roots: Mapping[str, Path | None]
    hub_cache: Path
    model_store: Path

    @property
    def templates(self) -> Path | None:
        return self.root / self.file.templates if self.file.templates else None


def root_of(folder: Path) -> Path:
    """The project's root: the nearest folder with `mlspec.yaml`, else the Git root, else the folder itself."""
    for marker in (PROJECT_FILE, ".git"):
        for parent in (folder, *folder.parents):
            if (parent / marker).exists():
                return parent
    return folder


def open_workspace(spec: Path, here: Surroundings, report: Report) -> Workspace | None:
    """The workspace of a spec file; None after a fault of `mlspec.yaml` was reported."""
    root = root_of(spec.parent)
    file = _project_file(root, here, report)
    if file is None:
        return None
    roots = {name: _bound(name, declared.env, here) for name, declared in file.roots.items()}
    return Workspace(root, file, roots, here.hub_cache, here.model_store)


def _project_file(root: Path, here: Surroundings, report: Report) -> ProjectFile | None:
    path = root / PROJECT_FILE
    if not path.exists():
        return ProjectFile()
    from mlspec.passes.load import load
    from mlspec.passes.validate import validate_project

    document = load(path, here.shown(path), report)
    return validate_project(document, report) if document else None


def _bound(name: str, variable: str | None, here: Surroundings) -> Path | None:
    if name in here.roots:
        return here.roots[name]
    value = here.environment.get(variable or "MLSPEC_ROOT_" + name.upper().replace("-", "_"))
    return Path(value).expanduser().absolute() if value else None
