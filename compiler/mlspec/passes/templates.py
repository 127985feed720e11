"""The project's own templates, looked at before any is used: one that would go unseen is a fault."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mlspec.diagnostics import Report, Span
from mlspec.resources import folder
from mlspec.suggest import closest
from mlspec.workspace import Workspace

PARTIAL = "_"
"""First letter of a template's name that other templates of the project include or import."""
_NOT_OF_BUNDLES = ("init", "report")
"""Folders of templates for specs and for pages about plans."""


def names() -> tuple[str, ...]:
    """The names of the built-in templates of bundles, sorted."""
    root = folder("templates")
    found = (path.relative_to(root) for path in root.rglob("*.j2"))
    return tuple(sorted(path.as_posix() for path in found if path.parts[0] not in _NOT_OF_BUNDLES))


def check_templates(workspace: Workspace, report: Report) -> None:
    """That the folder is one, that nothing in it leads out of the project, and that each template has a use."""
    own = workspace.templates
    if own is None or workspace.document is None:
        return
    span = workspace.document.value_span(("templates",))
    try:
        if not _inside(own, workspace.root):
            help = "copy the templates into the project"
            report.error(
                "path-outside", "the templates folder is a link that leads out of the project", span, help=help
            )
        elif not own.is_dir():
            help = "mlspec templates eject NAME makes it with a first template"
            report.error("no-templates-folder", f"there is no folder '{workspace.file.templates}'", span, help=help)
        else:
            _check_files(own, workspace.root, span, report)
    except OSError as problem:
        message = f"the templates can't be read: {(problem.strerror or str(problem)).lower()} ({problem.filename})"
        report.error("templates-unreadable", message, span, help="check their permissions")


def _check_files(own: Path, root: Path, span: Span, report: Report) -> None:
    known = names()
    for path in sorted(own.rglob("*")):
        name = path.relative_to(own).as_posix()
        if not _inside(path, root):
            message = f"the template {name} is a link that leads out of the project"
            report.error("path-outside", message, span, help="copy the file into the project")
        elif path.suffix == ".j2" and not path.is_dir():
            _check_template(path, name, known, span, report)


def _check_template(path: Path, name: str, known: Collection[str], span: Span, report: Report) -> None:
    if not path.is_file():
        report.error("unknown-template", f"the template {name} is no regular file", span, help="put a text file there")
    elif name not in known and not path.name.startswith(PARTIAL):
        near = closest(name, known)
        help = f"did you mean {near}?" if near else "mlspec templates list shows the names"
        message = f"no template has the name {name}: it would not be used"
        report.error("unknown-template", message, span, help=f"{help} (a part that others include begins with '_')")


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except RuntimeError:
        # A loop of links, as Python 3.11 and 3.12 tell it.
        return False
