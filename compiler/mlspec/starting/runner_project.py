"""A project of a runner of one's own: a package with a build side, a serving side, an example and tests."""

from __future__ import annotations

import builtins
import keyword
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from mlspec import runners
from mlspec.characters import quoted
from mlspec.errors import CommandError
from mlspec.rendering.environment import environment
from mlspec.resources import folder
from mlspec.starting import Written
from mlspec.starting.project import new_file
from mlspec.starting.spec_text import dns_label

LONGEST_NAME = 30
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_runner(name: str, target: Path | None, here: Path, shown: Callable[[Path], str] = str) -> Written:
    """Write a whole project of the runner `name` into a folder; without one into `mlspec-NAME-runner` here.

    Raises:
        CommandError: the name is none, or taken; the folder isn't empty; it can't be written.
    """
    _check_name(name)
    root = here / (target or f"mlspec-{name}-runner")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        help = "a runner's project begins in a new or empty folder"
        raise CommandError("file-exists", f"{shown(root)} is there already, and holds something", help)
    files = _rendered(name)
    for path, text in files.items():
        new_file(root / path, text)
    place = shlex.quote(shown(root))
    message = f"now: cd {place} && python -m pip install -e '.[dev]' && python -m pytest"
    return Written(tuple(root / path for path in files), (message,))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        near = dns_label(name, "my-runner").lstrip("0123456789-")[:LONGEST_NAME].rstrip("-") or "my-runner"
        help = f"lower-case letters, digits and '-', a letter first, at most {LONGEST_NAME}: {near}"
        raise CommandError("bad-name", f"{quoted(name)} is no name for a runner", help)
    package = _package(name)
    if keyword.iskeyword(package) or keyword.issoftkeyword(package) or hasattr(builtins, package):
        help = f"as in {name}-model"
        raise CommandError("bad-name", f"{quoted(name)} is a word of the Python language", help)
    if name in runners.names():
        help = "give it another name; a spec says it after 'runner:'"
        raise CommandError("bad-name", f"there is a runner {quoted(name)} already", help)


def _package(name: str) -> str:
    return name.replace("-", "_")


def _rendered(name: str) -> dict[str, str]:
    """The files' texts, by their paths in the project; the package's own come last."""
    values, made = _values(name), environment(folder("templates"))
    return {
        path: str(made.get_template(f"init/runner/{file}.j2").render(values)) for path, file in _files(name).items()
    }


def _values(name: str) -> Mapping[str, str]:
    package = _package(name)
    return {
        "name": name,
        "package": package,
        "class_name": "".join(part.capitalize() for part in name.split("-")),
        "spec": f"specs/{name}.yaml",
        "model": f"specs/models/{name}",
    }


def _files(name: str) -> Mapping[str, str]:
    """Each file's template."""
    code = f"src/mlspec_{_package(name)}_runner"
    return {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        "mlspec.yaml": "mlspec.yaml",
        f"specs/{name}.yaml": "spec.yaml",
        f"specs/models/{name}/weights.json": "weights.json",
        f"{code}/__init__.py": "init.py",
        f"{code}/build.py": "build.py",
        f"{code}/runtime.py": "runtime.py",
        f"{code}/requirements.txt": "requirements.txt",
        f"tests/test_{_package(name)}.py": "test.py",
    }
