"""What a service with MLX is set up with: its memory limits; on a Linux CPU a BLAS, and how many threads it has."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.hardware.budget import MIB, Budget, origin
from mlspec.model.machine import Machine
from mlspec.model.plan import Decision
from mlspec.model.target import Target

OPENBLAS = "libopenblas.so.0"
"""Loaded before MLX on a Linux CPU: MLX's wheel links reference BLAS, whose float32 products are many times slower."""

BLAS_PACKAGE = "libopenblas0-pthread"

THREADS = "OPENBLAS_NUM_THREADS"

MOST_THREADS = 2
"""Measured: one thread does most for each CPU second, two help a single stream."""

CACHE_SHARE = 0.05
MOST_CACHE_BYTES = 1024 * MIB
"""Freed buffers that MLX keeps for the next request: it needs few, as a service's shapes repeat."""

WIRED_FROM_MACOS = 15

BUDGET = "plan:memory.budget_bytes"

_NONE = "mlspec plans none without a machine"
OF_MACHINE = f"{_NONE}: the service takes what the machine reports less 5 %"
_CACHE_OF_MACHINE = f"{_NONE}: the service takes 5 % of what the machine reports, at most 1 GiB"
_AT_MOST_A_GIB = f"{_NONE}: the service keeps at most 1 GiB"
_MLX_OWN = f"{_NONE}: MLX's own holds"
_UNPLANNED = {"metal": (OF_MACHINE, _CACHE_OF_MACHINE), "cpu": (_MLX_OWN, _AT_MOST_A_GIB)}
"""The rules of memory and cache limit by accelerator, as the runtime goes by (`mlspec_runtime.mlx.memory`)."""
_NOT_WIRED = "only macOS wires memory for a GPU"


def of_machine(target: Target, *names: str) -> tuple[str, ...]:
    """The inputs of a decision that came of the machine, or of there being none."""
    return origin(target.machine, *names) if target.machine is not None else ("target:machine",)


def unplanned_limits(target: Target) -> tuple[Decision, Decision]:
    """`memory_limit` and `cache_limit` without a budget: none."""
    inputs = of_machine(target, "memory_bytes")
    memory, cache = _UNPLANNED.get(target.accelerator, (_MLX_OWN, _MLX_OWN))
    return (
        Decision("memory.memory_limit_bytes", None, memory, inputs),
        Decision("memory.cache_limit_bytes", None, cache, inputs),
    )


def cache_limit(allowed: Budget, memory_limit_bytes: int) -> Decision:
    """What MLX keeps of freed buffers, beside a memory limit."""
    share = min(int(allowed.bytes * CACHE_SHARE), MOST_CACHE_BYTES, allowed.ceiling_bytes - memory_limit_bytes)
    rule = "5 % of the budget, at most 1 GiB: with it MLX stays below what the machine has"
    value = max(0, share) // MIB * MIB
    return Decision("memory.cache_limit_bytes", value, rule, (BUDGET, "plan:memory.memory_limit_bytes"))


def wired_limit(target: Target, wanted_bytes: int, rule: str, inputs: tuple[str, ...]) -> Decision:
    """What stays resident, if the target can wire it: `wanted_bytes`, by its rule, at most the working set."""
    key, machine = "memory.wired_limit_bytes", target.machine
    if target.platform != "macos":
        return Decision(key, None, _NOT_WIRED, ("target:platform",))
    if machine is None or machine.working_set_bytes is None:
        return Decision(key, None, OF_MACHINE, of_machine(target, "working_set_bytes"))
    if machine.macos is not None and int(machine.macos.partition(".")[0]) < WIRED_FROM_MACOS:
        rule = f"none: nothing can be wired on macOS {machine.macos}, it takes {WIRED_FROM_MACOS} or later"
        return Decision(key, 0, rule, of_machine(target, "macos"))
    inputs = (*inputs, *of_machine(target, "working_set_bytes"))
    return Decision(key, min(up_to_mib(wanted_bytes), machine.working_set_bytes), rule, inputs)


def up_to_mib(size_bytes: int) -> int:
    """The size in whole MiB, rounded up."""
    return -(-size_bytes // MIB) * MIB


def preload(target: Target) -> Decision:
    """The BLAS to load before MLX, if any."""
    inputs = ("target:accelerator",)
    if target.accelerator == "cpu":
        rule = "on a Linux CPU MLX's own BLAS is the reference one: OpenBLAS loaded before it is many times faster"
        return Decision("runtime.preload_blas", OPENBLAS, rule, inputs)
    return Decision("runtime.preload_blas", None, "the model runs on the GPU", inputs)


def threads(target: Target, given: Mapping[str, tuple[str | None, str]]) -> Decision | None:
    """Threads of OpenBLAS; None where there is none. `given`: variables of the spec's own, with the place of each."""
    if target.accelerator != "cpu":
        return None
    key = f"environment.{THREADS}"
    if THREADS in given:
        value, place = given[THREADS]
        return Decision(key, value, "as the spec says", (place,), given=True)
    return _threads(key, target.machine, of_machine(target, "cpus"))


def _threads(key: str, machine: Machine | None, inputs: tuple[str, ...]) -> Decision:
    cpus = machine.cpus if machine else None
    if cpus is None:
        return Decision(key, None, "OpenBLAS decides: the target doesn't say how many cores there are", inputs)
    rule = "one thread does most for each CPU second, two help a single request"
    rejected = (f"{cpus}: all cores gain little",) if cpus > MOST_THREADS else ()
    return Decision(key, str(min(MOST_THREADS, cpus)), rule, inputs, rejected)
