"""What to do about a file that can't be taken as it is. The project's file has remedies of its own."""

from __future__ import annotations

import errno
from pathlib import PurePath

from mlspec.workspace import PROJECT_FILE

_SPEC_IN_FOLDER = "name a spec file in it"
_PROJECT_IN_FOLDER = f"a project's {PROJECT_FILE} is a file: move the folder away, or rename it"
_OF_ERRORS = {
    errno.ELOOP: "a link leads back to itself: remove it",
    errno.ENAMETOOLONG: "give the file a shorter name",
}


def is_project_file(shown: str) -> bool:
    """Whether a file is a project's own, by its name: it is looked at although nobody named it."""
    return PurePath(shown).name == PROJECT_FILE


def of_folder(shown: str) -> str:
    """A folder stands where a file is wanted."""
    return _PROJECT_IN_FOLDER if is_project_file(shown) else _SPEC_IN_FOLDER


def of_device(shown: str) -> str:
    """A pipe, a socket or a device stands where a file is wanted."""
    return "move it away" if is_project_file(shown) else "name a file"


def of_large_file(shown: str) -> str:
    if is_project_file(shown):
        return "is this the project's file? It needs a few lines"
    return "is this a spec? Weights and data lie in files of their own"


def of_error(error: OSError | ValueError) -> str:
    """The system refuses to open the file."""
    number = error.errno if isinstance(error, OSError) else None
    return _OF_ERRORS.get(number or 0, "check the file's permissions")


def of_dead_link(shown: str) -> str:
    if is_project_file(shown):
        return f"remove the link, or let it point to the project's {PROJECT_FILE}"
    return "remove the link, or let it point to a spec"


def of_empty_file(shown: str) -> str:
    if is_project_file(shown):
        return "write the two lines `apiVersion: mlspec/v1` and `kind: Project` into it, or remove it"
    return "`mlspec init` writes a spec to start from"


def of_second_document(shown: str) -> str:
    return "remove it: a project has one file" if is_project_file(shown) else "put each spec into a file of its own"
