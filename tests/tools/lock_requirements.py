"""Make the tested constraint sets again: `python tests/tools/lock_requirements.py [--check] [--upgrade]`.

Each owner (a runner, a backend) has one file a set, `<owner>/requirements/<set>.txt`: the closure of what it
asks for, each line pinned. One file serves Python 3.11 to 3.13 and every processor of the set; a line that
is not for all of them keeps its marker. First all owners of a set are resolved together, then each alone
under those versions, so that the files of a set always agree and their union installs.

Versions of the environment that runs this script are kept, because they are what the tests ran with; then
those of the files as they are, unless `--upgrade` is given. It asks `uv` from PATH, which asks the package
index that it is set up for; nothing is installed and no wheel is downloaded but for its metadata.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COMPILER = Path(__file__).resolve().parents[2] / "compiler" / "mlspec"
PYTHONS = ("3.11", "3.12", "3.13")
PYTHON_AFTER_LAST = "3.14"


@dataclass(frozen=True)
class ConstraintSet:
    """One kind of machine: the extra of mlx that it needs and the processors that it may have."""

    name: str
    platform: str
    machines: tuple[str, ...]
    mlx_extra: str

    def environments(self) -> list[str]:
        """The environments to resolve for, as markers."""
        python = f"implementation_name == 'cpython' and python_full_version < '{PYTHON_AFTER_LAST}'"
        system = f"sys_platform == '{self.platform}'"
        return [f"{system} and platform_machine == '{m}' and {python}" for m in self.machines]

    def covers(self, marker: Marker) -> bool:
        """Whether the marker holds on every Python and processor of the set: then a line needs none."""
        return all(marker.evaluate(values) for values in self._values())

    def _values(self) -> Iterator[dict[str, str]]:
        system = {"darwin": "Darwin", "linux": "Linux"}[self.platform]
        for python in PYTHONS:
            for machine in self.machines:
                yield {
                    "python_version": python,
                    "python_full_version": f"{python}.0",
                    "platform_machine": machine,
                    "sys_platform": self.platform,
                    "platform_system": system,
                    "os_name": "posix",
                    "implementation_name": "cpython",
                    "platform_python_implementation": "CPython",
                }


LINUX = ("aarch64", "x86_64")
SETS = (
    ConstraintSet("macos", "darwin", ("arm64",), ""),
    ConstraintSet("linux-cpu", "linux", LINUX, "[cpu]"),
    ConstraintSet("linux-cuda12", "linux", LINUX, "[cuda12]"),
    ConstraintSet("linux-cuda13", "linux", LINUX, "[cuda13]"),
)


# What mlspec_runtime imports on top, or has the files of; the environment's versions.
RUNTIME_IMPORTS = (
    "fastapi-swagger",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-sdk",
    "prometheus-client",
    "pydantic",
    "uvicorn",
)


# The newest that was built for the set's CUDA (the extras of its metadata say for which); for 12 on x86-64 alone.
ONNXRUNTIME = {
    "linux-cuda12": [
        "onnxruntime-gpu[cuda,cudnn]==1.26.0; platform_machine == 'x86_64'",
        "onnxruntime==1.26.0; platform_machine == 'aarch64'",
    ],
    "linux-cuda13": ["onnxruntime-gpu[cuda,cudnn]==1.31.1"],
}

# On the public index torch for Linux is built for CUDA, since 2.11 for CUDA 13.
TORCH = {"linux-cuda12": "2.10.0"}

# What the build for CPUs (2.13.0+cpu, of torch's own index) says that it needs: the CUDA libraries aren't among it.
CPU_BUILDS = {
    "linux-cpu": [
        "[[tool.uv.dependency-metadata]]",
        'name = "torch"',
        'version = "2.13.0"',
        'requires-dist = ["filelock", "typing-extensions>=4.10.0", "setuptools>=77.0.3", "sympy>=1.13.3", '
        '"networkx>=2.5.1", "jinja2", "fsspec>=0.8.5"]',
    ]
}


def asked(owner: str, target: ConstraintSet) -> list[str]:
    """What an owner itself asks for; everything else in its files follows from it."""
    return {
        "runners/mlx_lm": ["mlx-lm==0.32.2", f"mlx{target.mlx_extra}==0.32.4", "llguidance==1.9.1"],
        "runners/python": ["numpy"],
        "runners/mlx": [f"mlx{target.mlx_extra}==0.32.4", "numpy"],
        "runners/coreml": ["coremltools==9.0", "numpy", "pillow"],
        "runners/onnx": ["numpy", *ONNXRUNTIME.get(target.name, ["onnxruntime==1.32.0"])],
        "runners/sklearn": ["numpy", "scikit-learn==1.9.1", "skops==0.16.0"],
        "runners/torch": ["numpy", "safetensors==0.8.0", f"torch=={TORCH.get(target.name, '2.13.0')}"],
        "tensors/packages/pillow": ["pillow"],
        "tensors/packages/pyarrow": ["pyarrow"],
        "tensors/packages/tokenizers": ["tokenizers"],
        "backends/bentoml": ["bentoml==1.4.39", "fastapi==0.165.0", *RUNTIME_IMPORTS],
    }[owner]


BACKEND = "backends/bentoml"
OWNERS = (
    "runners/mlx_lm",
    "runners/python",
    "runners/onnx",
    "runners/sklearn",
    "runners/mlx",
    "runners/coreml",
    "runners/torch",
    "tensors/packages/pillow",
    "tensors/packages/pyarrow",
    "tensors/packages/tokenizers",
    BACKEND,
)

# Torch pins each of CUDA's libraries, to older ones than MLX wants (12) or would take (13): such an owner agrees with
# the backend alone, and no service has both.
APART = {"linux-cuda12": ("runners/torch",), "linux-cuda13": ("runners/torch",)}


def lock_file(owner: str, target: ConstraintSet) -> Path:
    return COMPILER / owner / "requirements" / f"{target.name}.txt"


def locked(target: ConstraintSet, *, upgrade: bool) -> dict[Path, str]:
    """The text of each owner's file of a set."""
    kept = [] if upgrade else _present_lines(target)
    apart = APART.get(target.name, ())
    master = _together([o for o in OWNERS if o not in apart], target, _installed(), kept)
    masters = {owner: _together([owner, BACKEND], target, _lines_of(BACKEND, target, master), kept) for owner in apart}
    texts = {owner: _lines_of(owner, target, masters.get(owner, master)) for owner in OWNERS}
    return {lock_file(owner, target): "".join(f"{line}\n" for line in lines) for owner, lines in texts.items()}


def _together(
    owners: Sequence[str], target: ConstraintSet, constraints: Sequence[str], preferences: Sequence[str]
) -> list[str]:
    wanted = [line for owner in owners for line in asked(owner, target)]
    return _resolve(target, wanted, constraints=[_without_extra(line) for line in constraints], preferences=preferences)


def _without_extra(line: str) -> str:
    """A constraint may have none."""
    return re.sub(r"\[[^]]*\]", "", line)


def _lines_of(owner: str, target: ConstraintSet, master: list[str]) -> list[str]:
    wanted = asked(owner, target)
    with_extra = {f"{r.name}{r.specifier}": str(r) for r in map(Requirement, wanted) if r.extras}
    lines = _resolve(target, wanted, constraints=master, preferences=[])
    return [with_extra.get(line, line) for line in (_short(target, line) for line in lines)]


def _short(target: ConstraintSet, line: str) -> str:
    """The line without a marker that says no more than the set's name does."""
    requirement = Requirement(line)
    if requirement.marker is None or target.covers(requirement.marker):
        return f"{requirement.name}{requirement.specifier}"
    return f"{requirement.name}{requirement.specifier} ; {requirement.marker}"


def _installed() -> list[str]:
    """What is installed beside this script, pinned; not mlspec itself, which no index has."""
    found = {canonicalize_name(d.name): d.version for d in distributions()}
    found.pop(canonicalize_name("mlspec-compiler"), None)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _present_lines(target: ConstraintSet) -> list[str]:
    files = [lock_file(owner, target) for owner in OWNERS]
    return sorted({line for f in files if f.exists() for line in f.read_text(encoding="utf-8").splitlines()})


def _resolve(
    target: ConstraintSet, wanted: Sequence[str], *, constraints: Sequence[str], preferences: Sequence[str]
) -> list[str]:
    """The closure of `wanted`, one pinned line each, sorted by name."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environments = ", ".join(f'"{e}"' for e in target.environments())
        builds = CPU_BUILDS.get(target.name, [])
        _write(work / "pyproject.toml", ["[tool.uv]", f"environments = [{environments}]", *builds])
        _write(work / "wanted.in", wanted)
        _write(work / "constraints.txt", constraints)
        _write(work / "locked.txt", preferences)
        _run_uv(work)
        return (work / "locked.txt").read_text(encoding="utf-8").splitlines()


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _run_uv(work: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("lock_requirements: 'uv' is not on PATH: pip install uv")
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", PYTHONS[0], "--no-header"]
    command += [
        "--no-annotate",
        "--python",
        sys.executable,
        "wanted.in",
        "-c",
        "constraints.txt",
        "-o",
        "locked.txt",
    ]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"lock_requirements: uv found no answer\n{done.stderr}")


def main() -> int:
    options = argparse.ArgumentParser(description="Make the tested constraint sets again.")
    options.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file would change")
    options.add_argument("--upgrade", action="store_true", help="forget the versions that the files have now")
    chosen = options.parse_args()
    texts = {path: text for s in SETS for path, text in locked(s, upgrade=chosen.upgrade).items()}
    changed = [p for p, text in texts.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    for path in changed:
        print(path.relative_to(COMPILER))
        if not chosen.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
    return 1 if chosen.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
