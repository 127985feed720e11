"""Backends: what serves a bundle. One folder each, found by name or by entry point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mlspec import plugins
from mlspec.model.plan import Decision, Plan, Resolved, RunnerPlan
from mlspec.model.target import Target

BACKEND_API = 1


class Backend(Protocol):
    """What a serving system gives the compiler. `backend_api` is the version of this protocol it was written for."""

    backend_api: int
    name: str
    modules: tuple[str, ...]
    """What serving imports, beside the runner's."""

    def decide(self, resolved: Resolved, runner: RunnerPlan) -> tuple[Decision, ...]:
        """The decisions that are the backend's: workers, timeouts, ports."""

    def requirements(self, target: Target) -> tuple[str, ...]:
        """Pinned requirement lines, with their closure."""

    def templates(self, target: Target) -> Mapping[str, str]:
        """Path in the bundle to the template that it is rendered from."""

    def documents(self, plan: Plan) -> Mapping[str, Mapping[str, Any]]:
        """Path in the bundle to data that is written there: as JSON where it ends in `.json`, else as YAML."""

    def command(self, python: str, host: str, port: int) -> list[str]:
        """The command that serves a bundle from its folder."""


def find(name: str) -> Backend | None:
    """The backend of this name, None if there is none."""
    found: Backend | None = plugins.find("backends", name)
    return found


def names() -> tuple[str, ...]:
    """All backend names that a spec may use here, sorted."""
    return plugins.names("backends")
