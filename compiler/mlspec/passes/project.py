"""The workspace of a spec: its project's root, `mlspec.yaml`, and what binds the roots that it declares."""

from __future__ import annotations

from pathlib import Path

from mlspec.diagnostics import Report
from mlspec.model.document import Document
from mlspec.model.project import ProjectFile
from mlspec.passes.load import load
from mlspec.passes.validate import validate_project
from mlspec.workspace import PROJECT_FILE, Surroundings, Workspace


def root_of(folder: Path) -> Path:
    """The project's root: the nearest folder with `mlspec.yaml`, else the Git root, else the folder itself."""
    for marker in (PROJECT_FILE, ".git"):
        for parent in (folder, *folder.parents):
            if _is_there(parent / marker):
                return parent
    return folder


def open_workspace(spec: Path, here: Surroundings, report: Report) -> Workspace | None:
    """The workspace of a spec file; None after a fault of `mlspec.yaml` was reported."""
    root = root_of(spec.parent)
    path = root / PROJECT_FILE
    if not _is_there(path):
        return _workspace(root, ProjectFile.model_construct(), None, here)
    document = load(path, here.shown(path), report)
    file = validate_project(document, report) if document else None
    if file is None:
        return None
    return _workspace(root, file, document, here)


def _workspace(root: Path, file: ProjectFile, document: Document | None, here: Surroundings) -> Workspace:
    roots = {name: _bound(name, declared.env, here) for name, declared in file.roots.items()}
    this_machine = None if file.reproducible or here.reproducible else here.this_machine
    return Workspace(root, file, document, roots, here.hub_cache, here.model_store, this_machine)


def _is_there(path: Path) -> bool:
    """Whether something has this name, a link that leads nowhere too; what can't be seen isn't there."""
    try:
        return path.is_symlink() or path.exists()
    except OSError:
        return False


def _bound(name: str, variable: str | None, here: Surroundings) -> Path | None:
    if name in here.roots:
        return here.roots[name]
    value = here.environment.get(variable or "MLSPEC_ROOT_" + name.upper().replace("-", "_"))
    return Path(value).expanduser().absolute() if value else None
