"""A first spec for a model's folder, written where the project keeps its specs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mlspec.characters import quoted
from mlspec.errors import CommandError
from mlspec.starting import Written
from mlspec.starting.place import ModelFolder, Start
from mlspec.starting.project import check_root, mark_root, new_file
from mlspec.starting.recognising import recognised, to_fill_in
from mlspec.starting.spec_text import FirstModel, dns_label, is_dns_label, spec_text


def write_spec(model: Path | None, start: Start, output: Path | None = None, name: str | None = None) -> Written:
    """Look at a model's folder and write a spec for it; without a folder one to fill in.

    Raises:
        CommandError: the folder holds nothing to serve or is outside the project, or the file is there already.
    """
    if name is not None and not is_dns_label(name):
        help = f"lower-case letters, digits and '-', at most 40: {dns_label(name, 'my-model')}"
        raise CommandError("bad-name", f"{quoted(name)} is no name for a service", help)
    label, first = _first_model(model, start)
    name = name or label
    file = Path(os.path.normpath(start.here / output)) if output else start.root / "specs" / f"{name}.yaml"
    if start.in_project(file) is None:
        help = "a spec's paths start at its project's root: write it inside the project"
        raise CommandError("path-outside", f"{quoted(str(output))} is outside the project {start.root}", help)
    project = dns_label(start.root.name, "project")
    check_root(start.root, file.parent)
    new_file(file, spec_text(name, project, first, _schema(start, file)))
    marked = mark_root(start.root, file.parent)
    return Written((file, *marked), (*first.messages, f"now: mlspec check {shlex.quote(start.shown(file))}"))


def _first_model(model: Path | None, start: Start) -> tuple[str, FirstModel]:
    """What the service may be called, and its model."""
    if model is None:
        return "my-model", to_fill_in()
    place = ModelFolder(start.here / model, str(model), start)
    return place.label, recognised(place)


def _schema(start: Start, file: Path) -> str | None:
    """The schema as an editor finds it from the spec, where the project has a copy."""
    schema = start.root / "schema" / "mlspec.schema.json"
    return Path(os.path.relpath(schema, file.parent)).as_posix() if schema.is_file() else None
