"""Runners: what loads and runs a model of one framework. One folder each, found by name or by entry point.

A runner's folder has `build.py` (the `Runner` below, light to import) and `runtime.py` (what serves; it is copied into
the bundle, imports `mlspec_runtime` and never `mlspec`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import RunnerPlan
from mlspec.model.target import Target

RUNNER_API = 1
GROUP = "mlspec.runners"


class Faults(Protocol):
    """Where a runner reports what is wrong with a model: `pointer` is within the spec's `model` block."""

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None: ...
    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None: ...


class Runner(Protocol):
    """What a framework gives the compiler. `runner_api` is the version of this protocol that it was written for."""

    runner_api: int
    name: str
    tasks: tuple[str, ...]
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

    def plan(self, model: Any, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        """Decide all that the runner decides; None after a fault was reported."""

    def requirements(self, model: Any, target: Target) -> tuple[str, ...]:
        """Pinned requirement lines (with their closure) of the service on this target."""

    def runtime_files(self) -> Mapping[str, Path]:
        """Files to copy into the bundle's `mlspec_runtime/runners/<name>/`; `runtime.py` must be one."""

    def user_files(self, model: Any) -> tuple[str, ...]:
        """Project-relative files of the user's that the bundle needs (a module for the `python` runner)."""


def find(name: str) -> Runner | None:
    """The runner of this name: a built-in folder, else an installed entry point; None if there is neither."""
    folder = name.replace("-", "_")
    if folder.isidentifier() and (Path(__file__).parent / folder / "build.py").is_file():
        runner: Runner = import_module(f"mlspec.runners.{folder}.build").RUNNER
        return runner
    return _installed(name)


def _installed(name: str) -> Runner | None:
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP, name=name):
        runner: Runner = point.load()
        return runner
    return None


def names() -> tuple[str, ...]:
    """All runner names that a spec may use here, sorted. Scans the entry points: for messages, not for the build."""
    from importlib.metadata import entry_points

    built_in = {f.parent.name.replace("_", "-") for f in Path(__file__).parent.glob("*/build.py")}
    return tuple(sorted(built_in | {p.name for p in entry_points(group=GROUP)}))
