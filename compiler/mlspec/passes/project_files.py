"""The files of the project that a spec names, looked at before anything is made of them: a part of `inspect`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mlspec.characters import shortened
from mlspec.diagnostics import Report, Span
from mlspec.looking import NO_FILE, Kind, check_readable, kind_of, stays_inside, told
from mlspec.model.document import Document, Pointer
from mlspec.model.spec import Spec
from mlspec.runners import Runner
from mlspec.tensors.steps import service_steps, step_files
from mlspec.user_code import check_imports
from mlspec.user_files import UserFileError, files_of
from mlspec.workspace import Workspace

PLACE = "user"
"""The folder of a bundle that the user's files are in, by their paths in the project."""
_LONGEST_PATH_IN_A_MESSAGE = 200


def user_files(spec: Spec, runner: Runner) -> dict[Pointer, str]:
    """All that a spec names for its bundle, by where it does: the runner's, and those of the service's steps."""
    of_model = {("model", *pointer): path for pointer, path in runner.user_files(spec.model).items()}
    of_steps = {("service", *pointer): path for pointer, path in step_files(service_steps(spec.service)).items()}
    return {**of_model, **of_steps}


def check_user_files(
    named: Mapping[Pointer, str],
    document: Document,
    workspace: Workspace,
    report: Report,
    look: Callable[[Pointer, Path], None] = lambda pointer, file: None,
) -> None:
    """That the files and folders that a spec names for its bundle can go into it, and that the code in them finds
    there what it imports. `look` gets each single file, and may raise OSError.

    A key of its own names a file; what stands in a list may be a folder, too.
    """
    found: dict[Pointer, dict[str, Path]] = {}
    for pointer, path in named.items():
        span = document.value_span(pointer)
        if _may_be_a_folder(pointer):
            files = _listed(path, span, workspace, report)
        else:
            there = check_project_file(path, span, workspace, report, partial(look, pointer))
            files = _listed(path, span, workspace, report) if there else None
        if files is not None:
            found[pointer] = files
    if len(found) == len(named):
        check_imports(workspace.root, found, document, report)


def copied_user_files(
    named: Mapping[Pointer, str], document: Document, workspace: Workspace, report: Report
) -> dict[str, Path] | None:
    """The files by their paths in the bundle; None after a fault was reported."""
    found: dict[str, Path] = {}
    for pointer, path in named.items():
        files = _listed(path, document.value_span(pointer), workspace, report)
        if files is None:
            return None
        found |= files
    return {f"{PLACE}/{name}": file for name, file in sorted(found.items())}


def check_project_file(
    path: str, span: Span, workspace: Workspace, report: Report, look: Callable[[Path], None] = lambda file: None
) -> bool:
    """That a file of the project, named at `span`, is there and can be read; a fault is reported if not. `look` gets it
    if it is, and may raise OSError.
    """
    file = workspace.root / path
    try:
        found = _is_file_inside(file, path, span, workspace, report)
        if found:
            look(file)
        return found
    except OSError as problem:
        _unreadable(problem, file, span, workspace, report)
        return False


def _may_be_a_folder(pointer: Pointer) -> bool:
    return isinstance(pointer[-1], int)


def _listed(path: str, span: Span, workspace: Workspace, report: Report) -> dict[str, Path] | None:
    """The files that the path brings; None after a fault was reported."""
    try:
        if kind_of(workspace.root / path) == "nothing":
            _missing(path, "nothing", span, workspace, report)
            return None
        return files_of(workspace.root, path)
    except UserFileError as problem:
        report.error(problem.code, problem.message, span, help=problem.help)
    except OSError as problem:
        _unreadable(problem, workspace.root / path, span, workspace, report)
    return None


def _is_file_inside(file: Path, path: str, span: Span, workspace: Workspace, report: Report) -> bool:
    if not stays_inside(file, workspace.root):
        message = f"'{path}' is a link that leads out of the project"
        report.error("path-outside", message, span, help="copy the file into the project")
        return False
    kind = kind_of(file)
    if kind == "file":
        check_readable(file)
        return True
    _missing(path, kind, span, workspace, report)
    return False


def _missing(path: str, kind: Kind, span: Span, workspace: Workspace, report: Report) -> None:
    shown = f"'{shortened(path, _LONGEST_PATH_IN_A_MESSAGE)}'"
    message = f"there is no file {shown}" if kind == "nothing" else f"{shown} {NO_FILE[kind]}, not a file"
    report.error("file-missing", message, span, help=f"paths start at the project's root: {workspace.root.name}/")


def _unreadable(problem: OSError, file: Path, span: Span, workspace: Workspace, report: Report) -> None:
    message, help = told(problem, file, shown_in(workspace))
    report.error("file-unreadable", message, span, help=help)


def shown_in(workspace: Workspace) -> Callable[[Path], str]:
    """Shows a path as the specs of the project write it, one outside in full."""
    root = workspace.root
    return lambda path: str(path.relative_to(root) if path.is_relative_to(root) and path != root else path)
