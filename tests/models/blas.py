"""OpenBLAS before the reference BLAS of MLX's Linux wheel: float32 products 26 to 36 times faster."""

from __future__ import annotations

import ctypes
import os

LIBRARY = "libopenblas.so.0"


def preload() -> bool:
    """Load OpenBLAS into this process, if there is one. It helps only before `mlx.core` is imported."""
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:  # no such library: slower, nothing else changes (macOS uses Metal and Accelerate anyway)
        return False
    return True


def environment() -> dict[str, str]:
    """The environment for a process that imports MLX: OpenBLAS preloaded if there is one, and no network."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OPENBLAS_NUM_THREADS": "2"}
    preloaded = {"LD_PRELOAD": LIBRARY} if preload() else {}
    return {**os.environ, **offline, **preloaded}
