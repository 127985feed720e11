"""What a service of tensors needs beside its runner: packages for images and tables in requests, and for its steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlspec.model.signature import Tensor
from mlspec.model.target import Target

_PACKAGES = Path(__file__).parent / "packages"


def request_packages(inputs: Iterable[Tensor]) -> tuple[str, ...]:
    """The packages by which requests with these inputs are read, sorted. Records and CSV need none."""
    needed = {package for tensor in inputs for package in _of(tensor)}
    return tuple(sorted(needed))


def _of(tensor: Tensor) -> Iterable[str]:
    if tensor.image is not None:
        yield "pillow"
    if tensor.columns:
        yield "pyarrow"


def package_lines(packages: Iterable[str], target: Target) -> tuple[str, ...]:
    """The pinned lines of these packages, with all that they need, for a target."""
    files = (_PACKAGES / package / "requirements" / f"{target.constraint_set}.txt" for package in packages)
    return tuple(sorted({line for file in files for line in file.read_text(encoding="utf-8").splitlines()}))
