"""OpenBLAS for MLX on a Linux CPU: loaded before MLX, with the kernels that fit the CPU."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Set
from pathlib import Path

LOG = logging.getLogger("mlspec.mlx")
VARIABLE = "OPENBLAS_CORETYPE"
"""Read by OpenBLAS as it is loaded (its README, "Setting the number of threads", and driver/others/dynamic.c)."""
WITHOUT_AVX = frozenset(("Katmai", "Coppermine", "Northwood", "Prescott", "Banias", "Core2", "Penryn", "Dunnington"))
"""Kernels that OpenBLAS takes for a CPU that is newer than it is: it goes by the CPU's model, not by what it can do."""
_BY_FLAGS = (
    ("SkylakeX", frozenset(("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"))),
    ("Haswell", frozenset(("avx2", "fma"))),
)
_CPUINFO = Path("/proc/cpuinfo")
_PROBE_S = 30.0
_PROBE = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.openblas_get_corename.restype = ctypes.c_char_p
print(library.openblas_get_corename().decode())
"""


def preload(library: str) -> None:
    """Load a BLAS before MLX does: its symbols win over those of the reference BLAS that MLX's wheel links."""
    if VARIABLE not in os.environ and platform.machine() == "x86_64":
        _choose_kernels(library)
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        LOG.warning("%s: computing will be much slower; install it (Debian: libopenblas0-pthread)", error)


def _choose_kernels(library: str) -> None:
    own = _own_choice(library)
    better = better_kernels(own, cpu_flags())
    if better is not None:
        LOG.info("OpenBLAS doesn't know this CPU and would take its kernels for %s; it is told %s", own, better)
        os.environ[VARIABLE] = better


def _own_choice(library: str) -> str:
    """What it takes if nobody says anything; empty if it doesn't tell. Asked in a process of its own: it chooses once,
    as it is loaded.
    """
    command = [sys.executable, "-c", _PROBE, library]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PROBE_S)  # noqa: S603 - our own
    except (OSError, subprocess.SubprocessError) as problem:
        LOG.info("the kernels of %s are not known: %s", library, problem)
        return ""
    return done.stdout.strip()


def better_kernels(own: str, flags: Set[str]) -> str | None:
    """OpenBLAS's name of the best kernels for a CPU with these flags (as /proc/cpuinfo has them), if those that it
    chose are of a time before AVX; None if they are not.
    """
    if own not in WITHOUT_AVX:
        return None
    return next((name for name, needed in _BY_FLAGS if needed <= flags), None)


def cpu_flags() -> frozenset[str]:
    """What this computer's CPU can do; nothing where Linux doesn't say."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())
