"""Opening a session of onnxruntime with the execution provider that the plan names, and no other.

onnxruntime goes on without a provider that it doesn't have, on the CPU, and says so in a warning at most: here that is
an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec_runtime.errors import ServiceError

if TYPE_CHECKING:
    from .runtime import Settings

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}
_UNITS = {"all": "ALL", "cpu_only": "CPUOnly", "cpu_and_gpu": "CPUAndGPU", "cpu_and_ne": "CPUAndNeuralEngine"}
_REMEDIES = {
    "cpu": "install the bundle's requirements.txt",
    "coreml": "serve it on a Mac with the bundle's requirements.txt, or build with provider: cpu",
    "cuda": "install the bundle's requirements.txt on a computer with an NVIDIA GPU and its driver, "
    "or build with provider: cpu",
}
CACHE_VARIABLE = "MLSPEC_CACHE_DIR"
_ERRORS_ALONE = 3


def open_session(file: Path, settings: Settings, environment: Mapping[str, str] = os.environ) -> Any:
    """An `InferenceSession` of the model. Raises ServiceError (503) where the provider isn't to be had."""
    import onnxruntime

    asked = PROVIDERS[settings.provider]
    if settings.provider == "cuda":
        # NVIDIA's libraries, from the packages beside it: the system's loader doesn't look there.
        onnxruntime.preload_dlls(directory="")
    _check(asked, onnxruntime.get_available_providers(), settings.provider)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads or _cores()
    options.log_severity_level = _ERRORS_ALONE
    providers: list[Any] = [(asked, provider_options(settings, environment))]
    if settings.provider != "cpu":
        # For the operators that the accelerator has none of.
        providers.append((PROVIDERS["cpu"], {}))
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    # Its exceptions have no type of their own in common.
    except Exception as problem:
        told = str(problem).splitlines()[0][:500]
        raise ServiceError("load_failed", f"onnxruntime can't open {file.name}: {told}", 503) from problem
    _check(asked, session.get_providers(), settings.provider)
    return session


def _check(asked: str, there: list[str], provider: str) -> None:
    if asked not in there:
        message = f"onnxruntime has no {asked} here, only {', '.join(there)}; {_REMEDIES[provider]}"
        raise ServiceError("load_failed", message, 503)


def provider_options(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """What the provider is asked for, by onnxruntime's names."""
    if settings.provider != "coreml":
        return {}
    # The older format knows fewer operators.
    options = {"ModelFormat": "MLProgram", "MLComputeUnits": _UNITS[settings.compute_units]}
    cache = _cache_folder(settings.cache_key, environment)
    return options if cache is None else {**options, "ModelCacheDirectory": str(cache)}


def _cache_folder(key: str, environment: Mapping[str, str]) -> Path | None:
    """Where Core ML's compiled form of this model is kept, as compiling takes long; None where nothing can be kept.

    onnxruntime knows a model in it by its path alone (CoreMLExecutionProvider, `ModelCacheDirectory`): each has a
    folder of its own.
    """
    given = environment.get(CACHE_VARIABLE)
    place = Path(given) if given else Path(environment.get("HOME") or Path.home()) / ".cache" / "mlspec"
    try:
        (place / "coreml" / key).mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return place / "coreml" / key


def _cores() -> int:
    """Those that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
