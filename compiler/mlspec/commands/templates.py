"""`mlspec templates`: list, show or eject the templates of bundles."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from mlspec.commands import surroundings
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import OK
from mlspec.passes.project import open_workspace
from mlspec.rendering.environment import BUILT_IN
from mlspec.resources import folder
from mlspec.workspace import PROJECT_FILE


def run(options: Namespace) -> int:
    if options.action == "list":
        print("\n".join(_names()))
        return OK
    source = _source(options.name)
    if options.action == "show":
        sys.stdout.write(source.read_text(encoding="utf-8"))
        return OK
    _eject(options.name, source, options)
    return OK


def _names() -> list[str]:
    root = folder("templates")
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*.j2") if p.parts[-2] != "init")


def _source(name: str | None) -> Path:
    if name not in _names():
        problem = f"there is no template '{name}'" if name else "which template?"
        raise CommandError("no-such-template", problem, "mlspec templates list shows all")
    return folder("templates") / str(name)


def _eject(name: str, source: Path, options: Namespace) -> None:
    """Write a template of the project's own that extends the built-in one, its blocks ready to be filled."""
    workspace = open_workspace(Path.cwd() / PROJECT_FILE, surroundings(options), Report())
    if workspace is None or workspace.templates is None:
        help = f"add to {PROJECT_FILE} at the project's root: 'templates: FOLDER'"
        raise CommandError("no-templates-folder", "the project names no folder for templates of its own", help)
    place = workspace.templates / name
    if place.exists():
        raise CommandError("file-exists", f"{place} is there already", "edit it, or move it away")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(_extension(name, source), encoding="utf-8")
    print(place)


def _extension(name: str, source: Path) -> str:
    import re

    blocks = re.findall(r"{%-?\s*block (\w+)", source.read_text(encoding="utf-8"))
    parts = [f'{{% extends "{BUILT_IN}{name}" %}}\n']
    parts += [f"{{% block {block} %}}\n{{{{ super() }}}}\n{{% endblock %}}\n" for block in blocks]
    return "".join(parts)
