"""How much memory a service may plan with on a target's machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlspec.model.machine import Machine
from mlspec.model.target import Target

GIB = 2**30
MIB = 2**20

MARGIN = 0.05
LEAST_MARGIN_BYTES = 256 * MIB
"""Of a Mac's working set what stays free: MLX keeps freed buffers there, Metal has its own, and an estimate errs."""

MLX_MACOS_SHARE = 0.95
"""MLX never takes more of a Mac's memory by itself (`MetalAllocator`: min(1.5 x working set, 0.95 x memory))."""

MLX_CPU_SHARE = 0.8
"""MLX's own memory limit where it computes on a CPU."""

CUDA_SHARE = 0.9
"""The driver, the CUDA context and MLX's kernels take the rest."""


@dataclass(frozen=True)
class Budget:
    """`bytes` is what the footprint must stay below, `ceiling_bytes` what MLX must, with the buffers that it keeps."""

    bytes: int
    ceiling_bytes: int
    rule: str
    inputs: tuple[str, ...]


def budget(target: Target) -> Budget | None:
    """The memory that the target's machine has for a service; None where the target names none, or it has no GPU."""
    if target.machine is None:
        return None
    return _RULES[target.accelerator](target.machine)


def gib(size_bytes: int) -> str:
    """A size as people are shown it: `14.1 GiB`, and in MiB what is less than a tenth of that."""
    if abs(size_bytes) < GIB / 10:
        return f"{size_bytes / MIB:.1f} MiB"
    return f"{size_bytes / GIB:.1f} GiB"


def origin(machine: Machine, *names: str) -> tuple[str, ...]:
    """Where values of the machine came from, as decisions give their inputs."""
    return tuple(machine.origins.get(name, "target:machine") for name in names)


def _metal(machine: Machine) -> Budget | None:
    if machine.working_set_bytes is None:
        return None
    allowed = min(machine.working_set_bytes, int(machine.memory_bytes * MLX_MACOS_SHARE))
    room = max(0, allowed - machine.reserved_bytes)
    margin = max(int(room * MARGIN), LEAST_MARGIN_BYTES)
    rule = f"the working set that macOS gives the GPU, {gib(allowed)}"
    rule += f"{_reserved(machine)}, less {gib(margin)} for buffers that MLX keeps and for what an estimate misses"
    inputs = origin(machine, "working_set_bytes", *_reserved_names(machine))
    return Budget(max(0, room - margin), room, rule, inputs)


def _cpu(machine: Machine) -> Budget:
    allowed = int(machine.memory_bytes * MLX_CPU_SHARE)
    room = max(0, machine.memory_bytes - machine.reserved_bytes)
    rule = f"{MLX_CPU_SHARE:g} of the memory, as MLX's own limit on a CPU has it{_reserved(machine)}"
    inputs = origin(machine, "memory_bytes", *_reserved_names(machine))
    return Budget(max(0, allowed - machine.reserved_bytes), room, rule, inputs)


def _cuda(machine: Machine) -> Budget | None:
    if machine.gpu_memory_bytes is None:
        return None
    rule = f"{CUDA_SHARE:g} of the GPU's memory: the driver and CUDA take the rest"
    allowed = int(machine.gpu_memory_bytes * CUDA_SHARE)
    return Budget(allowed, machine.gpu_memory_bytes, rule, origin(machine, "gpu_memory_bytes"))


def _reserved(machine: Machine) -> str:
    return f", less {gib(machine.reserved_bytes)} that the spec reserves" if machine.reserved_bytes else ""


def _reserved_names(machine: Machine) -> tuple[str, ...]:
    return ("reserved_bytes",) if machine.reserved_bytes else ()


_RULES: dict[str, Callable[[Machine], Budget | None]] = {"metal": _metal, "cpu": _cpu, "cuda12": _cuda, "cuda13": _cuda}
