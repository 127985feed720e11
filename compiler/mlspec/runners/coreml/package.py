"""The folder of an .mlpackage: its list of parts, the model among them, and the digests of all its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.looking import kind_of
from mlspec.model.facts import ModelFacts, ModelFile, ModelRef
from mlspec.model_files import BadModelFileError, files_below, fingerprint, read_json
from mlspec.runners.coreml.specification import Feature, Specification, read_specification

ENDING = ".mlpackage"
_LIST = "Manifest.json"


def read_package(ref: ModelRef, folder: Path, name: str) -> ModelFacts:
    """The facts of the package `name` in the folder. `details`: `package`, `version`, `inputs` and `outputs` as
    features, `states` and `functions` as numbers.

    Raises:
        BadModelFileError: it isn't there, or no package.
        OSError: it can't be read.
    """
    package = folder / name
    if kind_of(package) != "folder":
        what = "is missing" if kind_of(package) == "nothing" else "is no folder, as a package of Core ML is"
        raise BadModelFileError(f"{visible(name)}: {what}")
    found = read_specification(_model(package))
    files = fingerprint(folder, (f"{name}/{path}" for path in files_below(package)))
    return ModelFacts(ref, files, _weights_bytes(files), {"package": name, **details(found)})


def details(found: Specification) -> dict[str, Any]:
    """A specification as facts have it: JSON data."""
    features = {"inputs": [f.as_data() for f in found.inputs], "outputs": [f.as_data() for f in found.outputs]}
    return {"version": found.version, **features, "states": found.states, "functions": found.functions}


def specification(details: Mapping[str, Any]) -> Specification:
    """The inverse of `details`. Raises ValueError."""
    try:
        inputs, outputs = (tuple(map(Feature.from_data, details[key])) for key in ("inputs", "outputs"))
        return Specification(details["version"], inputs, outputs, details["states"], details["functions"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError("not the facts of a Core ML package") from problem


def _model(package: Path) -> Path:
    """The file of the specification: the package's list says which of its parts is the model."""
    listed = read_json(package / _LIST)
    parts, root = listed.get("itemInfoEntries"), listed.get("rootModelIdentifier")
    part = parts.get(root) if isinstance(parts, dict) and isinstance(root, str) else None
    path = part.get("path") if isinstance(part, dict) else None
    if not isinstance(path, str):
        raise BadModelFileError(f"{_LIST}: names no model")
    inside = PurePosixPath("Data", path)
    if ".." in inside.parts or inside.is_absolute() or kind_of(package / inside) != "file":
        raise BadModelFileError(f"{_LIST}: the model {quoted(path)} isn't in the package")
    return package / inside


def _weights_bytes(files: tuple[ModelFile, ...]) -> int:
    """All but the list: of older kinds of models the weights are in the specification."""
    return sum(file.size_bytes for file in files if PurePosixPath(file.path).name != _LIST)
