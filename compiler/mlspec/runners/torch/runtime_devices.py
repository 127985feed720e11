"""Where torch computes: that it is there, and the memory that is taken of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mlspec_runtime.errors import ServiceError


def check_device(device: str) -> None:
    """Raises ServiceError if torch can't compute there: it is never taken for another."""
    lacking = _without_mps() if device == "mps" else _without_cuda() if device == "cuda" else None
    if lacking is None:
        return
    remedy = "Set model.device: cpu in the spec and build again, or serve it where the device is"
    raise ServiceError("device_missing", f"the plan computes on {device}, and there is none: {lacking}. {remedy}", 503)


def _without_mps() -> str | None:
    if torch.backends.mps.is_available():
        return None
    if not torch.backends.mps.is_built():
        return f"torch {torch.__version__} is built without it, as for every system but macOS on Apple Silicon"
    return "macOS shows torch no GPU (a virtual machine, or a macOS older than this torch wants)"


def _without_cuda() -> str | None:
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built for CPUs; install the bundle's requirements.txt"
    return f"no NVIDIA GPU is seen, or its driver is older than CUDA {torch.version.cuda} wants"


def memory_bytes(device: str) -> Mapping[str, int]:
    """What torch holds of the device's memory, by kind; of a CPU's it doesn't count."""
    if device == "mps":
        active = torch.mps.current_allocated_memory()
        return {"active": active, "cache": max(0, torch.mps.driver_allocated_memory() - active)}
    if device == "cuda":
        active = torch.cuda.memory_allocated()
        cache = max(0, torch.cuda.memory_reserved() - active)
        return {"active": active, "cache": cache, "peak": torch.cuda.max_memory_allocated()}
    return {}
