"""The workspace of a spec: its project's root, `mlspec.yaml`, and what binds the roots that it declares."""

from __future__ import annotations

from pathlib import Path

from mlspec.diagnostics import Report
from mlspec.model.project import ProjectFile
from mlspec.passes.load import load
from mlspec.passes.validate import validate_project
from mlspec.workspace import PROJECT_FILE, Surroundings, Workspace


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
        return ProjectFile.model_construct()
    document = load(path, here.shown(path), report)
    return validate_project(document, report) if document else None


def _bound(name: str, variable: str | None, here: Surroundings) -> Path | None:
    if name in here.roots:
        return here.roots[name]
    value = here.environment.get(variable or "MLSPEC_ROOT_" + name.upper().replace("-", "_"))
    return Path(value).expanduser().absolute() if value else None
