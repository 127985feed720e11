"""All that was decided for one target, each value with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlspec.model.facts import Facts, Located
from mlspec.model.spec import Spec
from mlspec.model.target import Target

PLAN_VERSION = 1
RUNTIME_API = 1


@dataclass(frozen=True)
class Resolved:
    """A spec with the facts of its models, for one target."""

    spec: Spec
    facts: Facts
    located: tuple[Located, ...]
    target: Target


@dataclass(frozen=True)
class Decision:
    """One decided value. `rule` says why; `inputs` are what it came from, never line numbers: JSON pointers into the
    spec (`spec:/model/context_length`), facts (`facts:base/context_length`), a profile (`profile:machines/mac.yaml`),
    what was measured (`calibration:linux/points`), data rows (`data:chips/Apple M2 Max/bandwidth_gb_s`) or other
    decisions (`plan:memory.budget_bytes`). `rejected` are the alternatives, each with why it
    wasn't taken. `given`: the spec says so; else mlspec chose.
    """

    key: str
    value: Any
    rule: str
    inputs: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    given: bool = False


@dataclass(frozen=True)
class MemoryPart:
    """What one thing takes of the memory at the service's fullest moment, and how that is known."""

    name: str
    bytes: int
    rule: str


@dataclass(frozen=True)
class MemoryPlan:
    """The footprint in parts, and what the machine allows; None where the target names no machine."""

    parts: tuple[MemoryPart, ...]
    budget_bytes: int | None

    @property
    def footprint_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Speed:
    """An estimate, never a measurement: tokens a second of one request, with the band that it should lie in.

    `decode` is generation, `prefill` the reading of a prompt; each (low, expected, high).
    """

    decode_tokens_per_s: tuple[float, float, float]
    prefill_tokens_per_s: tuple[float, float, float] | None
    rule: str
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Derivation:
    """A model that the package step makes from the spec's own, once: `key` is the digest of source and settings.

    `bytes` is what its tensors will have, counted beforehand; `settings` is what the runner's `derive` reads; `work` is
    what the making is called.
    """

    role: str
    key: str
    settings: Mapping[str, Any]
    bytes: int
    work: Literal["quantize", "convert"] = "quantize"


@dataclass(frozen=True)
class RunnerPlan:
    """A runner's part of a plan.

    `settings` is what its runtime reads; `concurrency` requests are computed at once; `environment` is set where the
    service starts; `system_packages` are the Debian packages that an image needs; `requirements` are pinned lines of
    what was decided to be needed beside `Runner.requirements`, which stand where both name a package.
    """

    decisions: tuple[Decision, ...]
    settings: Mapping[str, Any]
    concurrency: int
    environment: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    memory: MemoryPlan | None = None
    speed: Speed | None = None
    derivations: tuple[Derivation, ...] = ()
    requirements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The whole plan of one bundle.

    `runtime` is the block of plan.json that the bundle reads; `written` maps a path in the bundle to the file that is
    copied there, `links` to a model's folder on this computer (no part of the bundle's bytes).
    """

    resolved: Resolved
    task: str
    decisions: tuple[Decision, ...]
    runtime: Mapping[str, Any]
    environment: Mapping[str, str]
    required_environment: tuple[str, ...]
    system_packages: tuple[str, ...]
    requirements: tuple[str, ...]
    copied: Mapping[str, Path]
    links: Mapping[str, Path]
    memory: MemoryPlan | None = None
    speed: Speed | None = None
    derivations: tuple[Derivation, ...] = ()

    @property
    def spec(self) -> Spec:
        return self.resolved.spec

    @property
    def target(self) -> Target:
        return self.resolved.target

    @property
    def folder(self) -> str:
        """Where the bundle goes below the output folder."""
        return f"{self.spec.metadata.project}/{self.spec.metadata.name}/{self.target.name}"

    def value(self, key: str) -> Any:
        """A decided value by its key; a KeyError if there is none."""
        for decision in self.decisions:
            if decision.key == key:
                return decision.value
        raise KeyError(key)
