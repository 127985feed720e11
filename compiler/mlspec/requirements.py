"""Pinned requirement lines (`name==version ; marker`)."""

from __future__ import annotations

import re
from collections.abc import Iterable

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of builds for a CPU (pytorch.org, "Start locally"): the public index has those for NVIDIA alone,
which bring gigabytes of CUDA.
"""
_OF_TORCH = ("torch", "torchaudio", "torchvision")


def package(line: str) -> str:
    """The package's name in a line, normalised (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]).lower()


def pins(lines: Iterable[str]) -> dict[str, str]:
    """Each package with all of its lines in one text, to compare."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(package(line), []).append(line)
    return {name: ", ".join(sorted(own)) for name, own in found.items()}


def cpu_builds(lines: Iterable[str], constraint_set: str) -> tuple[str, ...]:
    """The pins, without markers, whose builds for these computers are to come from `CPU_BUILDS`."""
    if constraint_set != "linux-cpu":
        return ()
    return tuple(line.partition(";")[0].strip() for line in lines if package(line) in _OF_TORCH)


def overridden(lines: Iterable[str], by: Iterable[str]) -> tuple[str, ...]:
    """All lines, where those of `by` stand in place of the others' of the same package."""
    winners = tuple(by)
    named = {package(line) for line in winners}
    return (*(line for line in lines if package(line) not in named), *winners)
