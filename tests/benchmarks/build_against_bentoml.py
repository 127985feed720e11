"""How long `mlspec build specs/lora.yaml` takes cold, beside `bentoml build` of the service that it makes.

    python tests/benchmarks/build_against_bentoml.py [RUNS]

Whole processes, in turn, in one run: the ratio of the medians is what to quote. Bytecode is compiled first; each run
of either starts without its output of the run before (no bundle; an empty BentoML home).
"""

from __future__ import annotations

import compileall
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MLSPEC = str(Path(sys.executable).with_name("mlspec"))
BENTOML = str(Path(sys.executable).with_name("bentoml"))


def main(runs: int) -> None:
    compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2, workers=0)
    compileall.compile_dir(ROOT / "compiler", quiet=2)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(runs + 1):
            ours.append(_ours(scratch / "out"))
            theirs.append(_theirs(scratch / "out/example/support-lora/linux", scratch / "home"))
    _print("mlspec build", ours[1:])
    _print("bentoml build", theirs[1:])
    print(f"ratio of the medians: {statistics.median(theirs[1:]) / statistics.median(ours[1:]):.1f}")


def _ours(out: Path) -> float:
    shutil.rmtree(out, ignore_errors=True)
    return _timed([MLSPEC, "build", "specs/lora.yaml", "-o", str(out)], ROOT, {})


def _theirs(bundle: Path, home: Path) -> float:
    shutil.rmtree(home, ignore_errors=True)
    return _timed([BENTOML, "build"], bundle, {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "true"})


def _timed(command: list[str], folder: Path, extra: dict[str, str]) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | extra
    begin = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - begin


def _print(name: str, times_s: list[float]) -> None:
    low, middle, high = min(times_s), statistics.median(times_s), max(times_s)
    print(f"{name:14} median {middle:.3f} s  (min {low:.3f}, max {high:.3f}, {len(times_s)} runs)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
