"""Loading a network: its device is checked, then its code is run, and its tensors are put in."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.predict.model import ModelContext
from mlspec_runtime.predict.user_code import user_class

from .runtime_devices import check_device
from .runtime_network import Network
from .runtime_states import fill, read_state

if TYPE_CHECKING:
    from .runtime import Settings

LOG = logging.getLogger("mlspec.torch")


def load(settings: Settings, context: ModelContext, folder: Path) -> Network:
    """The network, ready to compute. Raises ServiceError with what is wrong."""
    check_device(settings.device)
    path = folder / settings.file
    if settings.format == "exported":
        call = _program(path, settings)
        dtypes = [_dtype(name) for name in settings.input_dtypes]
    else:
        call = _network(path, settings, context.bundle)
        dtypes = [_computed(spec.numpy_dtype.kind, settings) for spec in context.inputs]
    told = settings.dtype or "the types that it was exported with"
    LOG.info("torch %s computes on %s in %s, %d threads", torch.__version__, settings.device, told, _threads())
    network = Network(call, settings.device, dtypes, context.inputs, context.outputs)
    network.prepare(compiled=settings.compile)
    return network


def _threads() -> int:
    return int(torch.get_num_threads())


def _computed(kind: str, settings: Settings) -> Any:
    """The type that an input is cast to; None: none but its own."""
    return _dtype(settings.dtype) if kind == "f" and settings.dtype else None


def _dtype(name: str) -> Any:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ServiceError("load_failed", f"torch has no type {name}; build the bundle again", 503)
    return found


def _network(path: Path, settings: Settings, bundle: Path) -> Any:
    network = _made(settings, bundle)
    fill(network, read_state(path, settings.format), path.name)
    network.eval().requires_grad_(False)
    return network.to(device=settings.device, dtype=_dtype(settings.dtype or "float32"))


def _made(settings: Settings, bundle: Path) -> torch.nn.Module:
    """An instance of the user's class: his code runs here, and nowhere before."""
    name = settings.class_name or ""
    kind = user_class(bundle / (settings.module or ""), name)
    try:
        network = kind(**settings.arguments)
    # Whatever the class raises, its name says more than a trace alone.
    except Exception as problem:
        LOG.exception("%s can't be made", name)
        given = ", ".join(settings.arguments) or "nothing"
        message = (
            f"{name}, made with {given}, raised {type(problem).__name__}; the server's log has it. Correct arguments"
        )
        raise ServiceError("load_failed", message, 503) from problem
    if not isinstance(network, torch.nn.Module):
        raise ServiceError("load_failed", f"{name} is no torch.nn.Module; correct class, or take runner: python", 503)
    return network


def _program(path: Path, settings: Settings) -> Any:
    """The exported program in a file whose bytes are those that are trusted: it is read once, and loaded from that."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != settings.sha256:
        message = f"{path.name} isn't the file that is trusted: its sha256 is {found[:12]}…; it is not loaded"
        raise ServiceError("model_mismatch", message, 503)
    program = torch.export.load(io.BytesIO(content))
    if settings.device != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, settings.device)
    return program.module()
