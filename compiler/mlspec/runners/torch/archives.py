"""The zip files that torch writes: their listing, the tensors of a state dict, the signature of an exported program.

Read are the list of what is in them, a state dict's pickle (its opcodes, see `pickled_tensors`) and the JSON of a
program; nothing is unpickled, and no tensor's numbers are read.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.looking import NO_FILE, kind_of
from mlspec.model_files import JSON_LIMIT_BYTES, BadModelFileError, Tensor
from mlspec.runners.torch.pickled_names import NotTensorsError
from mlspec.runners.torch.pickled_tensors import tensors_of

_PICKLE_LIMIT_BYTES = 64 * 1024 * 1024
_MOST_ENTRIES = 1_000_000
_SHOWN_KEYS = 4


class UnfitFileError(ValueError):
    """A file that torch wrote, but not one that mlspec takes; `code` names the diagnostic's page, `help` the remedy."""

    def __init__(self, code: str, message: str, help: str) -> None:
        super().__init__(message)
        self.code = code
        self.help = help


@dataclass(frozen=True)
class Program:
    """An exported program: its JSON description, and how many bytes its tensors have."""

    description: dict[str, Any]
    size_bytes: int


def state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pt` or `.pth` file.

    Raises:
        BadModelFileError: it is missing, broken or cut off.
        UnfitFileError: it holds something else than a state dict.
        OSError: it can't be read.
    """
    with _archive(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            raise UnfitFileError("model-format", f"{_shown(path)} holds TorchScript, which is code", _EXPORT)
        pickle = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if pickle is None or any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise _broken(path, "is no file that torch.save wrote")
        content = _read(archive, pickle, _PICKLE_LIMIT_BYTES, path)
    try:
        return tensors_of(content)
    except NotTensorsError as problem:
        raise _unfit(path, problem) from problem


def program(path: Path) -> Program:
    """The description of a `.pt2` file. Raises as `state_dict` does."""
    with _archive(path) as archive:
        names = archive.namelist()
        models = [name for name in names if "models/" in name and name.endswith(".json")]
        if len(models) != 1:
            message = f"{_shown(path)} holds {len(models) or 'no'} exported program{'s' if len(models) > 1 else ''}"
            raise UnfitFileError("model-format", message, _EXPORT)
        content = _read(archive, models[0], JSON_LIMIT_BYTES, path)
        size_bytes = sum(e.file_size for e in archive.infolist() if "data/weights/weight_" in e.filename)
    try:
        description = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise _broken(path, "its description is no JSON") from problem
    if not isinstance(description, dict):
        raise _broken(path, "its description is no JSON object")
    return Program(description, size_bytes)


_SAVE = 'save the tensors alone: torch.save(network.state_dict(), "model.pt"), or by safetensors.torch.save_file'
_EXPORT = 'export the network: torch.export.save(torch.export.export(network, inputs), "model.pt2"); or name its class'
_AGAIN = 'with what wrote it: torch.save(torch.load(FILE, weights_only=True), "model.pt")'


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    kind = kind_of(path)
    if kind != "file":
        raise _broken(path, NO_FILE[kind])
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            message = f"{_shown(path)} is a bare pickle, as torch wrote before 1.6; mlspec opens no pickle"
            raise UnfitFileError("pickle", message, f"{_SAVE}, {_AGAIN}")
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as problem:
            raise _broken(path, "is no file that torch wrote, or cut off") from problem
        with archive:
            if len(archive.infolist()) > _MOST_ENTRIES:
                raise _broken(path, f"holds more than {_MOST_ENTRIES:,} files")
            yield archive


def _read(archive: zipfile.ZipFile, name: str, limit_bytes: int, path: Path) -> bytes:
    try:
        with archive.open(name) as file:
            content = file.read(limit_bytes + 1)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as problem:
        raise _broken(path, "is broken or cut off") from problem
    if len(content) > limit_bytes:
        raise _broken(path, f"{quoted(name)} in it has more than {limit_bytes:,} bytes")
    return content


def _unfit(path: Path, problem: NotTensorsError) -> UnfitFileError:
    """Code where there should be tensors, or tensors with other things around them."""
    if problem.refused:
        message = f"{_shown(path)} is a pickle of more than tensors: {visible(str(problem))}"
        return UnfitFileError("pickle", message, _SAVE)
    if not problem.keys:
        return UnfitFileError("model-format", f"{_shown(path)} is no state dict: {problem}", _SAVE)
    keys = ", ".join(quoted(key) for key in problem.keys[:_SHOWN_KEYS]) + (", …" if problem.keys[_SHOWN_KEYS:] else "")
    message = f"{_shown(path)} is no state dict, but a dictionary of other things ({keys})"
    return UnfitFileError(
        "model-format", message, 'save the state dict in it alone: torch.save(found["model"], "model.pt")'
    )


def _shown(path: Path) -> str:
    return visible(path.name)


def _broken(path: Path, reason: str) -> BadModelFileError:
    return BadModelFileError(f"{_shown(path)}: {reason}")
