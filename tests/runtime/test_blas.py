"""Which of OpenBLAS's kernels a CPU gets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mlspec_runtime.mlx import blas
from mlspec_runtime.mlx.blas import better_kernels, cpu_flags

AVX2 = frozenset(("sse2", "avx", "avx2", "fma"))
AVX512 = AVX2 | {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("own", "flags", "better"),
    [
        ("Prescott", AVX512, "SkylakeX"),
        ("Prescott", AVX2, "Haswell"),
        ("Prescott", AVX512 - {"avx512vl"}, "Haswell"),
        ("Prescott", frozenset(("sse2", "avx")), None),
        ("Haswell", AVX512, None),
        ("SapphireRapids", AVX512, None),
        ("Zen", AVX2, None),
        ("", AVX512, None),
        ("Prescott", frozenset(), None),
    ],
)
def test_only_kernels_of_a_time_before_avx_are_replaced(own: str, flags: frozenset[str], better: str | None) -> None:
    assert better_kernels(own, flags) == better


def test_what_the_operator_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blas.VARIABLE, "Sandybridge")
    blas.preload("libm.so.6" if sys.platform == "linux" else "libSystem.dylib")
    assert os.environ[blas.VARIABLE] == "Sandybridge"


def test_a_missing_library_is_told_and_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    blas.preload("libnowhere-blas.so.0")
    assert "computing will be much slower" in caplog.text
    assert blas.VARIABLE not in os.environ or os.environ[blas.VARIABLE]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_kernels_in_use_fit_this_cpu() -> None:
    """In a process of its own: the library is loaded once."""
    program = (
        "import ctypes, sys; from mlspec_runtime.mlx.blas import preload; preload(sys.argv[1]);"
        "library = ctypes.CDLL(sys.argv[1]); library.openblas_get_corename.restype = ctypes.c_char_p;"
        "print(library.openblas_get_corename().decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "libopenblas.so.0"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("there is no OpenBLAS here")
    assert better_kernels(done.stdout.strip(), cpu_flags()) is None
