"""A Linux computer: system, memory, graphics."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.hardware.findings import Finding, Here
from mlspec.hardware.linux import linux_fields

_PROCESSORS = ("x86_64", "aarch64")
_OLDEST_GLIBC = (2, 35)
"""MLX's wheels are manylinux_2_35."""


def linux(here: Here) -> Iterator[Finding]:
    known = linux_fields(here.ask, here.root)
    yield _system(here)
    memory = known.get("memory_gb")
    if memory is None:
        yield Finding("memory", "warning", "it can't be seen how much there is", "say memory_gb in the spec's target")
    else:
        text = f"{memory[0]:.1f} GB by {memory[1].removeprefix('here:')}, {known['cpus'][0]} CPUs"
        yield Finding("memory", "ok", text)
    if "gpu_memory_gb" in known:
        yield Finding("GPU", "ok", f"NVIDIA with {known['gpu_memory_gb'][0]:.1f} GB")


def _system(here: Here) -> Finding:
    name, version = here.libc
    text = f"Linux {here.processor}, {name or 'no glibc'} {version}".rstrip()
    if here.processor not in _PROCESSORS:
        return Finding("system", "problem", text, "MLX has wheels for x86_64 and aarch64")
    if name != "glibc" or _numbers(version) < _OLDEST_GLIBC:
        return Finding("system", "warning", text, "MLX's wheels need glibc 2.35 or later: build an image and run that")
    return Finding("system", "ok", text)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isascii() and part.isdecimal())
