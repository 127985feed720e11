"""Which models the pinned onnxruntime reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mlspec.requirements import package


class Newest(NamedTuple):
    """The newest version of the file format, and of each set of operators, that a release reads."""

    ir_version: int
    opsets: Mapping[str, int]


READS = {
    "1.26": Newest(13, {"ai.onnx": 26, "ai.onnx.ml": 5}),
    "1.31": Newest(13, {"ai.onnx": 26, "ai.onnx.ml": 5}),
    "1.32": Newest(14, {"ai.onnx": 28, "ai.onnx.ml": 5}),
}
"""By release, as the libraries themselves said; tests/frameworks/test_onnx_versions.py asks the installed one."""
KNOWN_DOMAINS = frozenset(
    {
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    }
)
"""Whose operators it has."""


def pinned(requirements: Iterable[str]) -> str:
    """The version of onnxruntime among pinned requirement lines."""
    lines = (line for line in requirements if package(line) in ("onnxruntime", "onnxruntime-gpu"))
    return next(lines).partition("==")[2].split(" ")[0]


def too_new(details: Mapping[str, Any], version: str) -> str | None:
    """Why this version of onnxruntime doesn't read a model with these facts; None if it does."""
    newest = READS[".".join(version.split(".")[:2])]
    if details["ir_version"] > newest.ir_version:
        return f"is of IR version {details['ir_version']}; onnxruntime {version} reads up to {newest.ir_version}"
    for domain, number in details["opsets"].items():
        if number > newest.opsets.get(domain, number):
            return f"is of opset {number} of {domain}; onnxruntime {version} has it up to {newest.opsets[domain]}"
    return None


def unknown_operators(operators: Iterable[str], opset: int | None) -> list[str]:
    """Those of ONNX's own domain that onnxruntime doesn't have, or not in this set (None: the file names none)."""
    first = _first_versions()
    return sorted(name for name in operators if name not in first or (opset is not None and opset < first[name]))


@cache
def _first_versions() -> Mapping[str, int]:
    """Of each operator the first set that has it (tests/tools/onnx_operators.py writes them down)."""
    lines = (Path(__file__).parent / "data" / "operators.txt").read_text(encoding="utf-8").splitlines()
    return {name: int(version) for name, version in map(str.split, lines)}


def unknown_domains(details: Mapping[str, Any]) -> list[str]:
    """Those of its operators that onnxruntime doesn't have."""
    return sorted(set(details.get("domains", ())) - KNOWN_DOMAINS)
