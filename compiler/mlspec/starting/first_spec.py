"""A first spec for a model's folder, written where the project keeps its specs."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from mlspec.characters import FORBIDDEN, quoted
from mlspec.errors import CommandError
from mlspec.passes.project import root_of
from mlspec.starting import Written
from mlspec.starting.found_model import FoundModel, context_length, find_base, look
from mlspec.starting.project import mark_root, new_file
from mlspec.starting.spec_text import Adapter, BaseModel, FirstSpec, dns_label, is_dns_label

PLACEHOLDER = "models/NAME"


@dataclass(frozen=True)
class Start:
    """Where the user stands: `here` is the working folder, `cache` Hugging Face's."""

    here: Path
    cache: Path

    @property
    def root(self) -> Path:
        return root_of(self.here)

    def in_project(self, path: Path) -> str | None:
        """The path as a spec writes it; None if it is outside the project, or a link leads out."""
        place = Path(os.path.normpath(path))
        if not place.is_relative_to(self.root) or not place.resolve().is_relative_to(self.root.resolve()):
            return None
        return place.relative_to(self.root).as_posix()

    def shown(self, path: Path) -> str:
        return str(path.relative_to(self.here) if path.is_relative_to(self.here) else path)


def write_spec(model: Path | None, start: Start, output: Path | None = None, name: str | None = None) -> Written:
    """Look at a model's folder and write a spec for it; without a folder one to fill in.

    Raises:
        CommandError: the folder holds nothing to serve or is outside the project, or the file is there already.
    """
    if name is not None and not is_dns_label(name):
        help = f"lower-case letters, digits and '-', at most 40: {dns_label(name, 'my-model')}"
        raise CommandError("bad-name", f"{quoted(name)} is no name for a service", help)
    spec, messages = _spec_to_fill_in(name) if model is None else _spec_of(model, start, name)
    file = start.here / output if output else start.root / "specs" / f"{spec.name}.yaml"
    if start.in_project(file) is None:
        help = "a spec's paths start at its project's root: write it inside the project"
        raise CommandError("path-outside", f"{quoted(str(output))} is outside the project {start.root}", help)
    project = dns_label(start.root.name, "project")
    new_file(file, spec.text(project, _schema(start, file)))
    marked = mark_root(start.root, file.parent)
    return Written((file, *marked), (*messages, f"now: mlspec check {shlex.quote(start.shown(file))}"))


def _spec_to_fill_in(name: str | None) -> tuple[FirstSpec, tuple[str, ...]]:
    note = "The folder of an MLX model, with config.json and model.safetensors, from the project's root:"
    spec = FirstSpec(name or "my-model", BaseModel({"path": PLACEHOLDER}, note))
    return spec, (f"model.base is a place holder: write the folder of your model for {PLACEHOLDER}",)


def _spec_of(model: Path, start: Start, name: str | None) -> tuple[FirstSpec, tuple[str, ...]]:
    folder = start.here / model
    found, path = look(folder, str(model)), _path(folder, start)
    label = dns_label(folder.resolve().name, "my-model")
    if found.kind == "model":
        return FirstSpec(name or label, BaseModel({"path": path}, context_length=found.context_length)), ()
    base = _base_of(found, folder, start)
    adapter = Adapter("adapter" if label == "base" else label, path)
    return FirstSpec(name or label, base, adapter), (base.note,) if base.source is None else ()


def _path(folder: Path, start: Start) -> str:
    """The folder as the spec writes it."""
    path = start.in_project(folder)
    if path is None:
        message = f"{quoted(str(folder))} is outside the project {start.root}"
        help = "copy it into the project, or declare the place as a root in mlspec.yaml and write {root, path}"
        raise CommandError("path-outside", message, help)
    if path == ".":
        help = "put the model into a folder of its own"
        raise CommandError("path-outside", "the model lies in the project's root itself", help)
    if FORBIDDEN.search(path) or any(c in path for c in "\\\t\n\r"):
        message = f"{quoted(path)} has a character that a path in a spec may not hold"
        raise CommandError("path-outside", message, "rename the folder")
    return path


def _base_of(found: FoundModel, folder: Path, start: Start) -> BaseModel:
    """An adapter's base, or what the user has to do about it."""
    base = find_base(found.base, (start.root, start.here, folder, folder.parent), start.cache)
    if base is None:
        named = f"its configuration says {quoted(found.base)}" if found.base else "its configuration names none"
        return BaseModel(None, f"The adapter's base model wasn't found ({named}): fill in 'base'.")
    if base.folder is not None:
        path = start.in_project(base.folder)
        note = "The adapter's base model is outside the project: copy it in, and fill in 'base'."
        return BaseModel({"path": path}, context_length=context_length(base.folder)) if path else BaseModel(None, note)
    if base.revision is not None:
        return BaseModel({"hf": base.hf or "", "revision": base.revision})
    note = f"The adapter's base is {base.hf} on the hub: fill in its full commit hash, then: mlspec fetch"
    return BaseModel(None, note, hint=f"base: {{hf: {base.hf}, revision: COMMIT}}")


def _schema(start: Start, file: Path) -> str | None:
    """The schema as an editor finds it from the spec, where the project has a copy."""
    schema = start.root / "schema" / "mlspec.schema.json"
    return Path(os.path.relpath(schema, file.parent)).as_posix() if schema.is_file() else None
