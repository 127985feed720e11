"""inspect: the facts of a spec's models, by its runner, from configuration and headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlspec.diagnostics import Report
from mlspec.hub import snapshot_folder
from mlspec.model.document import Document, Pointer
from mlspec.model.facts import Facts, Located, ModelRef
from mlspec.model.spec import Source, Spec
from mlspec.runners import Runner
from mlspec.workspace import Workspace


@dataclass(frozen=True)
class ModelFaults:
    """Faults of the spec's `model` block, put at their place in the document."""

    document: Document
    report: Report

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.report.error(code, message, self.document.value_span(("model", *pointer)), help=help)

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.report.warning(code, message, self.document.value_span(("model", *pointer)), help=help)


def inspect(
    spec: Spec, runner: Runner, document: Document, workspace: Workspace, report: Report
) -> tuple[Facts, tuple[Located, ...]] | None:
    """The facts of all models and where they are; None after a fault was reported."""
    faults = ModelFaults(document, report)
    located = locate_all(spec, runner, document, workspace, report)
    facts = [runner.inspect(found.ref, found.folder, faults) for found in located or ()]
    _check_user_files(runner.user_files(spec.model), workspace, faults)
    if located is None or report.failed:
        return None
    return Facts(tuple(f for f in facts if f is not None)), located


def locate_all(
    spec: Spec, runner: Runner, document: Document, workspace: Workspace, report: Report
) -> tuple[Located, ...] | None:
    """Where each model of the spec is; None if one can't be found."""
    faults = ModelFaults(document, report)
    places = [(ref, _locate(ref, workspace, faults, document.shown)) for ref in runner.models(spec.model)]
    found = tuple(Located(ref, folder) for ref, folder in places if folder is not None)
    return found if len(found) == len(places) else None


def _locate(ref: ModelRef, workspace: Workspace, faults: ModelFaults, spec: str) -> Path | None:
    source = ref.source
    if source.path is not None:
        return _in_project(ref, source, source.path, workspace, faults)
    if source.hf is not None and source.revision is not None:
        return _in_hub_cache(ref, source.hf, source.revision, workspace, faults, spec)
    return _in_store(ref, source.store or "", workspace, faults)


def _in_project(ref: ModelRef, source: Source, path: str, workspace: Workspace, faults: ModelFaults) -> Path | None:
    base = workspace.root
    if source.root is not None:
        bound = workspace.roots.get(source.root)
        if bound is None:
            help = f"give --root {source.root}=DIR, or set {_variable(source.root, workspace)}"
            faults.error("root-unbound", f"the root '{source.root}' isn't bound here", ref.pointer, help=help)
            return None
        base = bound
    folder = base / path
    if not _stays_inside(folder, base):
        message = f"'{path}' is a link that leads out of the {'root' if source.root else 'project'}"
        help = "declare the place as a root in mlspec.yaml and name it by root and path"
        faults.error("path-outside", message, (*ref.pointer, "path"), help=help)
        return None
    if not folder.is_dir():
        problem = f"'{path}' is a file, not a folder" if folder.exists() else f"there is no folder '{path}'"
        where = f"in the root '{source.root}'" if source.root else "paths start at the project's root"
        help = f"{where}: {workspace.root.name}/" if not source.root else where
        faults.error("model-not-found", problem, (*ref.pointer, "path"), help=help)
        return None
    return folder


def _in_hub_cache(
    ref: ModelRef, name: str, revision: str, workspace: Workspace, faults: ModelFaults, spec: str
) -> Path | None:
    folder = snapshot_folder(workspace.hub_cache, name, revision)
    if folder is None:
        message = f"'{name}' at {revision[:12]} isn't on this computer"
        faults.error("model-not-fetched", message, (*ref.pointer, "hf"), help=f"mlspec fetch {spec}")
    return folder


def _in_store(ref: ModelRef, tag: str, workspace: Workspace, faults: ModelFaults) -> Path | None:
    name, _, version = tag.partition(":")
    folder = workspace.model_store / name / version
    if folder.is_dir():
        return folder
    help = "bentoml models list shows what is there; BENTOML_HOME says which store"
    faults.error("model-not-found", f"'{tag}' isn't in BentoML's model store", (*ref.pointer, "store"), help=help)
    return None


def _check_user_files(paths: Mapping[Pointer, str], workspace: Workspace, faults: ModelFaults) -> None:
    for pointer, path in paths.items():
        file = workspace.root / path
        if not _stays_inside(file, workspace.root):
            message = f"'{path}' is a link that leads out of the project"
            faults.error("path-outside", message, pointer, help="copy the file into the project")
        elif not file.is_file():
            message = f"there is no file '{path}'"
            faults.error(
                "file-missing", message, pointer, help=f"paths start at the project's root: {workspace.root.name}/"
            )


def _stays_inside(path: Path, base: Path) -> bool:
    return path.resolve().is_relative_to(base.resolve())


def _variable(root: str, workspace: Workspace) -> str:
    return workspace.file.roots[root].env or "MLSPEC_ROOT_" + root.upper().replace("-", "_")
