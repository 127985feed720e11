"""A conversion as a plan has it, and its making in a process of its own: it runs the network's code."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.characters import visible
from mlspec.errors import CommandError
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import Derivation
from mlspec.runners.coreml.model import Convert, CoremlModel

CONVERTER = "coremltools 9, 1"
"""Part of the key: another version may write other bytes."""

PACKAGE = "model.mlpackage"
"""What a conversion writes."""

_ELEMENT_BYTES = {"float16": 2, "float32": 4}
_MISSING = ("torch", "coremltools", "safetensors")
_SHOWN_LINES = 3
_LONGEST_LINE = 300


def derivation(model: CoremlModel, convert: Convert, source: ModelFacts) -> Derivation:
    """What is to be made of the source; its key is the digest of what is known of the source's files and of the
    settings.
    """
    settings = {
        "file": source.details["source"],
        "module": convert.module,
        "class": convert.class_name,
        "arguments": convert.arguments,
        "files": list(convert.files),
        "inputs": [tensor.settings() for tensor in model.inputs or ()],
        "outputs": [tensor.settings() for tensor in model.outputs or ()],
        "minimum_deployment_target": convert.minimum_deployment_target,
        "precision": convert.precision,
        "max_rows": convert.max_rows,
        "converter": CONVERTER,
    }
    size_bytes = converted_bytes(convert, source)
    return Derivation(source.ref.role, _key(source, settings), settings, size_bytes, work="convert")


def converted_bytes(convert: Convert, source: ModelFacts) -> int:
    """About what the package will have: the source's tensors are float32 in most cases."""
    return source.parameter_bytes * _ELEMENT_BYTES[convert.precision] // 4


def _key(source: ModelFacts, settings: Mapping[str, Any]) -> str:
    files = [[file.path, file.size_bytes, file.sha256, file.hashed] for file in source.files]
    text = json.dumps({"files": files, "settings": settings}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def convert(settings: Mapping[str, Any], source: Path, into: Path) -> None:
    """Write the package that these settings make of the folder `source` into the folder `into`, which must not exist.

    Raises:
        CommandError: torch or coremltools isn't installed, or converting failed.
    """
    import subprocess  # not at every build

    asked = json.dumps({"settings": dict(settings), "source": str(source), "into": str(into)})
    command = [sys.executable, "-P", "-m", "mlspec.runners.coreml.converting"]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    if done.returncode != 0:
        raise _failure(done.returncode, done.stderr)
    if not (into / PACKAGE / "Manifest.json").is_file():
        raise _failure(done.returncode, "the converter ended well and wrote no package")


def _failure(status: int, output: str) -> CommandError:
    for name in _MISSING:
        if f"No module named '{name}'" in output:
            help = 'install both: pip install "mlspec-compiler[torch,coreml]"'
            message = f"converting needs torch and coremltools, and {name} isn't installed"
            return CommandError("conversion-failed", message, help, failed=True)
    # Before the last traceback there are progress bars and warnings; of it the frames are indented.
    last = output.rpartition("Traceback (most recent call last):")[2]
    lines = [visible(line)[:_LONGEST_LINE] for line in last.splitlines() if line.strip() and not line[0].isspace()]
    told = " / ".join(lines[-_SHOWN_LINES:]) or "it said nothing"
    help = "coremltools has to know each of the network's operations; the runner torch needs no conversion"
    return CommandError("conversion-failed", f"the conversion ended with {status}: {told}", help, failed=True)
