"""The nearest ways out where a service doesn't fit its machine: each one is planned, none is guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Any

from mlspec.hardware.budget import GIB, gib
from mlspec.model.machine import Machine
from mlspec.runners.mlx_lm.planning.options import kv_stays, why_not
from mlspec.runners.mlx_lm.planning.policy import Choice, Point, Question, choose
from mlspec.runners.mlx_lm.planning.situation import Situation
from mlspec.suggest import listed

MOST_WAYS = 3

NEAR = 2
"""Changes that a person would make together."""

SERVER_GB = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
"""Sizes of memory that servers have."""

GPU_GB = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 180, 288)
"""Sizes of memory that NVIDIA's GPUs have."""


@dataclass(frozen=True)
class Way:
    """What to change, and how many bytes are left then."""

    change: str
    spare_bytes: int

    def __str__(self) -> str:
        return f"{self.change}: fits with {gib(self.spare_bytes)} to spare"


@dataclass(frozen=True)
class _Change:
    """A spec or machine with one thing changed; `told` says what of the plan found that would be written."""

    apply: Callable[[Situation], Situation]
    told: Callable[[Point], str]


def ways_out(situation: Situation, question: Question) -> tuple[Way, ...]:
    """At most three: changes of the spec, and a larger machine."""
    machine = _larger_machine(situation, question.context.most)
    changed = islice(_changed(situation, question.context.most), MOST_WAYS - len(machine))
    return (*changed, *machine)


def _changed(situation: Situation, longest: int) -> Iterator[Way]:
    """One change of the spec, then two together where neither is enough alone; more only if nothing else helps."""
    changes, enough = list(_changes(situation)), list[set[int]]()
    for count in range(1, len(changes) + 1):
        if count > NEAR and enough:
            return
        for chosen in combinations(range(len(changes)), count):
            if any(less <= set(chosen) for less in enough):
                continue
            if way := _together(situation, longest, [changes[index] for index in chosen]):
                enough.append(set(chosen))
                yield way


def _together(situation: Situation, longest: int, changes: Sequence[_Change]) -> Way | None:
    for change in changes:
        situation = change.apply(situation)
    question = situation.question(longest)
    choice = choose(question)
    if choice is None:
        return None
    point = _shown(choice)
    return Way(listed(change.told(point) for change in changes), _spare(question, point))


def _shown(choice: Choice) -> Point:
    """Before the context was lengthened to fill the memory."""
    return replace(choice.floor, concurrency=choice.point.concurrency)


def _spare(question: Question, point: Point) -> int:
    return (question.budget_bytes or 0) - question.needs(point)


def _changes(situation: Situation) -> Iterator[_Change]:
    """What the spec sets and could set otherwise, what costs least first."""
    model, service, machine = situation.model, situation.spec.service, situation.machine
    if model.prompt_cache_mb not in ("auto", 0):
        yield _Change(_model(prompt_cache_mb=0), lambda point: "prompt_cache_mb 0")
    if model.max_loaded_adapters != "auto":
        yield _Change(_model(max_loaded_adapters="auto"), lambda point: "max_loaded_adapters auto")
    if model.quantization != "auto" and why_not(model, situation.facts) is None:
        yield _Change(_model(quantization="auto"), lambda point: point.option.title)
    if model.context_length != "auto":
        yield _Change(_model(context_length="auto"), lambda point: f"context {point.context}")
    if service.concurrency not in ("auto", 1):
        yield _Change(_concurrency, lambda point: f"concurrency {point.concurrency}")
    if model.kv_bits == 16 and kv_stays(situation.architecture) is None:
        yield _Change(_model(kv_bits=8), lambda point: "kv_bits 8")
    if model.prefill_step != "auto":
        yield _Change(_model(prefill_step="auto"), lambda point: f"prefill_step {point.step}")
    if machine is not None and machine.reserved_bytes:
        yield _Change(_on(replace(machine, reserved_bytes=0)), lambda point: "reserve_gb 0")


def _model(**values: Any) -> Callable[[Situation], Situation]:
    """The situation with other values in the spec's `model`."""

    def apply(situation: Situation) -> Situation:
        model = situation.model.model_copy(update=values)
        return replace(situation, spec=situation.spec.model_copy(update={"model": model}))

    return apply


def _concurrency(situation: Situation) -> Situation:
    service = situation.spec.service.model_copy(update={"concurrency": "auto"})
    return replace(situation, spec=situation.spec.model_copy(update={"service": service}))


def _on(machine: Machine) -> Callable[[Situation], Situation]:
    return lambda situation: replace(situation, target=replace(situation.target, machine=machine))


def _larger_machine(situation: Situation, longest: int) -> tuple[Way, ...]:
    """The smallest larger machine on which the spec fits as it is."""
    for title, machine in _larger(situation):
        change = _Change(_on(machine), lambda point, title=title: title)  # type: ignore[misc]
        if way := _together(situation, longest, [change]):
            return (way,)
    return ()


def _larger(situation: Situation) -> Iterator[tuple[str, Machine]]:
    machine = situation.machine
    if machine is None:
        return
    if situation.target.accelerator == "metal":
        yield from _larger_macs(machine)
    elif situation.target.accelerator == "cpu":
        sizes = [size * GIB for size in SERVER_GB if size * GIB > machine.memory_bytes]
        yield from ((f"{size / GIB:g} GB of memory", replace(machine, memory_bytes=size)) for size in sizes)
    else:
        sizes = [size * GIB for size in GPU_GB if size * GIB > (machine.gpu_memory_bytes or 0)]
        yield from ((f"a GPU of {size / GIB:g} GB", replace(machine, gpu_memory_bytes=size)) for size in sizes)


def _larger_macs(machine: Machine) -> Iterator[tuple[str, Machine]]:
    """One Mac of each larger size that there is, with the macOS that the target names."""
    from mlspec.hardware.machines import products  # only for this error: it reads the tables

    by_memory = {product.machine.memory_bytes: product.machine for product in products(machine.macos)}
    for memory_bytes in sorted(by_memory):
        if memory_bytes > machine.memory_bytes:
            mac = replace(by_memory[memory_bytes], reserved_bytes=machine.reserved_bytes)
            yield f"a {memory_bytes / GIB:g} GB Mac", mac
