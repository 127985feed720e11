"""What a first spec needs around it: a file that is new, and a root that its paths start at."""

from __future__ import annotations

from pathlib import Path

from mlspec.errors import CommandError
from mlspec.passes.project import root_of
from mlspec.workspace import PROJECT_FILE
from mlspec.write_file import create_file

PROJECT_TEXT = """\
# The root of a project: paths in its specs start here.
apiVersion: mlspec/v1
kind: Project
"""


def new_file(path: Path, text: str) -> None:
    """Write a file that must not be there yet.

    Raises:
        CommandError: it is there, or can't be written.
    """
    try:
        create_file(path, text.encode("utf-8"))
    except FileExistsError as problem:
        help = "mlspec never overwrites a file: choose another name, or remove it first"
        raise CommandError("file-exists", f"{path} is there already", help) from problem
    except OSError as problem:
        raise cannot_write(path, problem) from problem


def cannot_write(path: Path, problem: OSError) -> CommandError:
    reason = (problem.strerror or "can't be written").lower()
    return CommandError("write-failed", f"{path}: {reason}", "mlspec wrote nothing there")


def check_root(root: Path, specs: Path) -> None:
    """That specs in the folder `specs` have this root, or can be given it.

    Raises:
        CommandError: they belong to another project.
    """
    nearest = root_of(specs)
    if nearest != root and (root / PROJECT_FILE).exists():
        help = f"run mlspec in {nearest}, or write the spec elsewhere"
        raise CommandError("path-outside", f"{specs} belongs to another project, {nearest}", help)


def mark_root(root: Path, specs: Path) -> tuple[Path, ...]:
    """Write mlspec.yaml into `root` if specs in the folder `specs` would take another folder for their root."""
    if root_of(specs) == root:
        return ()
    new_file(root / PROJECT_FILE, PROJECT_TEXT)
    return (root / PROJECT_FILE,)
