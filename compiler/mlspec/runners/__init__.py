"""Runners: what loads and runs a model of one framework. One folder each, found by name or by entry point.

A runner's folder has `build.py` (the `Runner` below, light to import) and `runtime.py` (what serves; it is copied into
the bundle, imports `mlspec_runtime` and never `mlspec`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from mlspec import plugins
from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target

RUNNER_API = 1


class Faults(Protocol):
    """Where a runner reports what is wrong with a model: `pointer` is within the spec's `model` block."""

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None: ...
    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None: ...

    def of_service(self) -> Faults:
        """The same for the spec's `service` block."""


class Runner(Protocol):
    """What a framework gives the compiler. `runner_api` is the version of this protocol that it was written for.

    Of `tasks`, the first is the default. `pointer`s of models are within the spec's `model` block.
    """

    runner_api: int
    name: str
    tasks: tuple[str, ...]
    package: str
    """Folder of its own runtime files in the bundle, below `mlspec_runtime/runners/`."""
    model_type: type[BaseModel]
    """The pydantic type of the spec's `model` block."""

    def model_schema(self) -> Mapping[str, Any] | None:
        """JSON Schema of the `model` block; None if mlspec's own schema has it."""

    def check(self, model: Any, faults: Faults) -> None:
        """Rules that a schema can't state."""

    def models(self, model: Any) -> tuple[ModelRef, ...]:
        """The models that the block names."""

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        """Read configuration and headers, never weights; None after a fault was reported."""

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        """Decide all that the runner decides; None after a fault was reported."""

    def modules(self, model: Any) -> tuple[str, ...]:
        """What its runtime imports: looked for before a service is started here."""

    def requirements(self, model: Any, target: Target) -> tuple[str, ...]:
        """Pinned requirement lines (with their closure) of the service on this target."""

    def runtime_files(self, model: Any) -> Mapping[str, Path]:
        """Files to copy into the bundle's `mlspec_runtime/runners/`, by their paths in it; `<package>/runtime.py` must
        be one. A runner that others compute for names theirs, too.
        """

    def user_files(self, model: Any) -> Mapping[Pointer, str]:
        """Files of the project that the bundle needs (the module of runner `python`), by where the block names them."""


def find(name: str) -> Runner | None:
    """The runner of this name, None if there is none."""
    found: Runner | None = plugins.find("runners", name)
    return found


def names() -> tuple[str, ...]:
    """All runner names that a spec may use here, sorted."""
    return plugins.names("runners")
