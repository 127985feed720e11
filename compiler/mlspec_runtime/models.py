"""Where the models of a bundle are on this machine, and whether they are those of the plan."""

from __future__ import annotations

import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from mlspec_runtime.derived import files_to_check
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.plan import PlannedFile, PlannedModel, RuntimePlan

LOG = logging.getLogger("mlspec.models")
MODELS_VARIABLE = "MLSPEC_MODELS"
"""Names a folder with a folder or link for each role: `base`, `adapters/support`."""
MAX_HEADER_BYTES = 100_000_000
_CHUNK_BYTES = 1 << 20

StoreLookup = Callable[[str], Path | None]
"""The folder of `name:version` in the model store, None if it isn't there."""


def locate(plan: RuntimePlan, bundle: Path, environment: Mapping[str, str], store: StoreLookup) -> dict[str, Path]:
    """The folder of each model by its role, found and checked against the plan. Raises ServiceError (503)."""
    folders = {}
    for model in plan.models:
        folders[model.role] = _find(model, bundle, environment, store)
        # The log has the folder; the client, who gets the errors, has no business with it.
        LOG.info("model %s: %s", model.role, folders[model.role])
        verify(model, folders[model.role])
    return folders


def _find(model: PlannedModel, bundle: Path, environment: Mapping[str, str], store: StoreLookup) -> Path:
    looked = []
    for told, folder in _candidates(model, bundle, environment, store):
        if folder is not None and folder.is_dir():
            return folder
        looked.append(told)
    message = (
        f"model '{model.role}' ({_told(model)}) is not on this machine; looked at {', '.join(looked)}. "
        f"Build the bundle where the model is, or set {MODELS_VARIABLE} to a folder that holds {model.role}/"
    )
    raise ServiceError("model_missing", message, 503)


def _candidates(
    model: PlannedModel, bundle: Path, environment: Mapping[str, str], store: StoreLookup
) -> Iterator[tuple[str, Path | None]]:
    folder = environment.get(MODELS_VARIABLE)
    if folder:
        yield f"{model.role} in {MODELS_VARIABLE}", Path(folder, model.role)
    yield f"models/{model.role} in the bundle", bundle / "models" / model.role
    tag = model.source.get("store")
    # The store has the model that the served one was made of.
    if tag and model.derived is None:
        yield f"{tag} in the model store", store(tag)


def verify(model: PlannedModel, folder: Path) -> None:
    """Compare each planned file's size and hash: of tensor files the header alone is read, never the
    weights. Of a model that the build made, the files are those that its folder's own list names.
    """
    try:
        files = files_to_check(model, folder)
    except ValueError as problem:
        raise _mismatch(model, f"it {problem}") from problem
    for planned in files:
        fault = _fault(planned, folder / planned.path)
        if fault is not None:
            raise _mismatch(model, f"{planned.path} {fault}")


def _mismatch(model: PlannedModel, told: str) -> ServiceError:
    remedy = "Build again to serve it as it is now, or bring the planned files back"
    return ServiceError("model_mismatch", f"model '{model.role}' is not the one of the plan: {told}. {remedy}", 503)


def _fault(planned: PlannedFile, path: Path) -> str | None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != planned.size_bytes:
            return f"has {size_bytes} bytes, planned are {planned.size_bytes}"
        digest = header_sha256(path) if planned.hashed == "header" else content_sha256(path)
    except OSError as error:
        return f"can't be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    if digest != planned.sha256:
        return f"has another {planned.hashed} (sha256 {digest[:12]}…, planned {planned.sha256[:12]}…)"
    return None


def header_sha256(path: Path) -> str:
    """The hash of a safetensors file's length prefix and JSON header. Raises OSError, ValueError."""
    # os.pread, as a buffered file would read beyond what was asked for.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        prefix = os.pread(descriptor, 8, 0)
        if len(prefix) < 8:
            raise ValueError("is no safetensors file: it is too short")
        (length,) = struct.unpack("<Q", prefix)
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"is no safetensors file: its header would have {length} bytes")
        return hashlib.sha256(prefix + _read_exactly(descriptor, length, 8)).hexdigest()
    finally:
        os.close(descriptor)


def _read_exactly(descriptor: int, length: int, offset: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(descriptor, min(length, _CHUNK_BYTES), offset)
        if not part:
            raise ValueError("is no safetensors file: it ends within its header")
        parts.append(part)
        length, offset = length - len(part), offset + len(part)
    return b"".join(parts)


def content_sha256(path: Path) -> str:
    """The hash of a whole file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _told(model: PlannedModel) -> str:
    return ", ".join(f"{key}: {value}" for key, value in model.source.items())
