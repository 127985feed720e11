"""inspect: the facts of a spec's models, by its runner, from configuration and headers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

from mlspec.characters import shortened, visible
from mlspec.diagnostics import Report
from mlspec.hub import snapshot_folder
from mlspec.looking import NO_FILE, Kind, kind_of, near_folder, stays_inside, told
from mlspec.model.document import Document, Pointer
from mlspec.model.facts import Facts, Located, ModelFacts, ModelRef
from mlspec.model.lock import Lock, LockedModel
from mlspec.model.spec import Source, Spec
from mlspec.passes.lock import believable, check_rest, covers, lacks_weights, locked_facts, only_absent
from mlspec.passes.project_files import check_user_files, shown_in, user_files
from mlspec.runners import Faults, Runner
from mlspec.tensors.steps import check_step_file, service_steps
from mlspec.workspace import Workspace

_LONGEST_PATH_IN_A_MESSAGE = 200


@dataclass(frozen=True)
class ModelFaults:
    """Faults of a block of the spec, put at their place in the document."""

    document: Document
    report: Report
    block: str = "model"

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.report.error(code, message, self.document.value_span((self.block, *pointer)), help=help)

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.report.warning(code, message, self.document.value_span((self.block, *pointer)), help=help)

    def of_service(self) -> Faults:
        return replace(self, block="service")


@runtime_checkable
class Reader(Protocol):
    """A runner that knows what is in the files of the project that it needs."""

    def check_user_file(self, model: Any, pointer: Pointer, file: Path, faults: Faults) -> None:
        """Report what is wrong with the content of one of `user_files`, named at `pointer`. Raises OSError."""


def inspect(
    spec: Spec, runner: Runner, document: Document, workspace: Workspace, report: Report, lock: Lock | None = None
) -> tuple[Facts, tuple[Located, ...]] | None:
    """The facts of all models and where they are; None after a fault was reported.

    With a lock, its facts: a model that isn't on this computer is believed, one that is has to be the same.
    """
    faults, refs = ModelFaults(document, report), runner.models(spec.model)
    if lock is not None and not (
        covers(lock, refs, faults, document.shown) and believable(lock, refs, runner, faults, document.shown)
    ):
        return None
    located = locate_all(spec, runner, document, workspace, report, lock)
    inspected = [_inspected(found, runner, workspace, faults) for found in located or ()]
    _check_user_files(runner, spec, workspace, faults)
    if located is None or report.failed:
        return None
    facts = Facts(tuple(f for f in inspected if f is not None))
    if lock is not None:
        facts = locked_facts(lock, refs, facts.models, faults, document.shown)
    return None if report.failed else (facts, located)


def locate_all(
    spec: Spec, runner: Runner, document: Document, workspace: Workspace, report: Report, lock: Lock | None = None
) -> tuple[Located, ...] | None:
    """Where each model of the spec is, but for locked ones that aren't here; None if another one can't be found."""
    faults, found = Report(), []
    for ref in runner.models(spec.model):
        folder = _place(ref, lock.of(ref.role) if lock else None, document, workspace, faults)
        found += [Located(ref, folder)] if folder else []
    report.extend(faults)
    return None if faults.failed else tuple(found)


def _place(
    ref: ModelRef, locked: LockedModel | None, document: Document, workspace: Workspace, report: Report
) -> Path | None:
    """Where a model is. None if it isn't here: that is a fault, unless a lock knows the model."""
    found = Report()
    faults = ModelFaults(document, found)
    folder = _locate(ref, workspace, faults, document.shown)
    if folder is not None and locked is not None and lacks_weights(locked, folder):
        _check_rest(locked, ref, folder, workspace, faults)
        folder = None
    if locked is None or not only_absent(found):
        report.extend(found)
    return folder


def _check_rest(locked: LockedModel, ref: ModelRef, folder: Path, workspace: Workspace, faults: ModelFaults) -> None:
    try:
        check_rest(locked, ref, folder, faults, faults.document.shown)
    except OSError as problem:
        _unreadable(problem, folder, ref, ref.pointer, workspace, faults)


def _inspected(found: Located, runner: Runner, workspace: Workspace, faults: ModelFaults) -> ModelFacts | None:
    try:
        return runner.inspect(found.ref, found.folder, faults)
    except OSError as problem:
        _unreadable(problem, found.folder, found.ref, found.ref.pointer, workspace, faults)
        return None


def _locate(ref: ModelRef, workspace: Workspace, faults: ModelFaults, spec: str) -> Path | None:
    source = ref.source
    if source.path is not None:
        base = _base_of(source, ref, workspace, faults)
        return base and _in_folder(ref, base, source.path, workspace, faults)
    if source.hf is not None and source.revision is not None:
        return _in_hub_cache(ref, source.hf, source.revision, workspace, faults, spec)
    return _in_store(ref, source.store or "", workspace, faults)


def _base_of(source: Source, ref: ModelRef, workspace: Workspace, faults: ModelFaults) -> Path | None:
    """What a path starts from: the project, or a root that is bound here."""
    if source.root is None:
        return workspace.root
    bound = workspace.roots.get(source.root)
    if bound is None:
        help = f"give --root {source.root}=DIR, or set {_variable(source.root, workspace)}"
        faults.error("root-unbound", f"the root '{source.root}' isn't bound here", ref.pointer, help=help)
    return bound


def _in_folder(ref: ModelRef, base: Path, path: str, workspace: Workspace, faults: ModelFaults) -> Path | None:
    folder, pointer, root = base / path, (*ref.pointer, "path"), ref.source.root
    if not stays_inside(folder, base):
        message = f"'{path}' is a link that leads out of the {'root' if root else 'project'}"
        help = "declare the place as a root in mlspec.yaml and name it by root and path"
        faults.error("path-outside", message, pointer, help=help)
        return None
    try:
        kind = kind_of(folder)
    except OSError as problem:
        _unreadable(problem, folder, ref, pointer, workspace, faults)
        return None
    if kind == "folder":
        return folder
    start = _start(ref.source, base, workspace)
    faults.error("model-not-found", _no_folder(kind, path), pointer, help=_remedy(kind, base, path, start))
    return None


def _no_folder(kind: Kind, path: str) -> str:
    shown = f"'{shortened(path, _LONGEST_PATH_IN_A_MESSAGE)}'"
    if kind == "nothing":
        return f"there is no folder {shown}"
    return f"{shown} {NO_FILE[kind] if 'link' in kind else 'is a file'}, not a folder"


def _remedy(kind: Kind, base: Path, path: str, start: str) -> str:
    parent = PurePosixPath(path).parent
    if kind == "file":
        own = "put the model into a folder of its own and name that"
        return f"name its folder: '{parent}'" if parent.parts else own
    if kind in ("dead link", "link loop"):
        return "make the link lead to the model's folder, or copy the folder there"
    near = near_folder(base, path) if kind == "nothing" else None
    return f"did you mean '{visible(near)}'? ({start})" if near else start


def _start(source: Source, base: Path, workspace: Workspace) -> str:
    """Where paths start, for a remedy: what a root is bound to may be what is wrong."""
    if source.root is None:
        return f"paths start at the project's root: {workspace.root.name}/"
    return f"the root '{source.root}' is {visible(str(base))}{'' if base.is_dir() else ', which is no folder'}"


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
    folder, pointer = workspace.model_store / name / version, (*ref.pointer, "store")
    try:
        if kind_of(folder) == "folder":
            return folder
    except OSError as problem:
        _unreadable(problem, folder, ref, pointer, workspace, faults)
        return None
    help = "bentoml models list shows what is there; BENTOML_HOME says which store"
    faults.error("model-not-found", f"'{tag}' isn't in BentoML's model store", pointer, help=help)
    return None


def _unreadable(
    problem: OSError, place: Path, ref: ModelRef, pointer: Pointer, workspace: Workspace, faults: ModelFaults
) -> None:
    message, help = told(problem, place, shown_in(workspace))
    faults.error("model-unreadable", f"{ref.role}: {message}", pointer, help=help)


def _check_user_files(runner: Runner, spec: Spec, workspace: Workspace, faults: ModelFaults) -> None:
    named = user_files(spec, runner)

    def look(pointer: Pointer, file: Path) -> None:
        if pointer[0] == "service":
            check_step_file(service_steps(spec.service), pointer[1:], file, faults.of_service())
        elif isinstance(runner, Reader):
            runner.check_user_file(spec.model, pointer[1:], file, faults)

    check_user_files(named, faults.document, workspace, faults.report, look)


def _variable(root: str, workspace: Workspace) -> str:
    return workspace.file.roots[root].env or "MLSPEC_ROOT_" + root.upper().replace("-", "_")
