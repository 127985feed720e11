"""All that was decided for one target, each value with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PLAN_VERSION = 1
RUNTIME_API = 1


@dataclass(frozen=True)
class Decision:
    """One decided value: `rule` says why, `inputs` are pointers into the spec, facts or data rows it came from."""

    key: str
    value: Any
    rule: str
    inputs: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunnerPlan:
    """A runner's part of a plan. `settings` is what its runtime reads; `environment` is set before it is imported;
    `system_packages` are Debian packages of an image; `user_files` come from the project into the bundle."""

    decisions: tuple[Decision, ...]
    settings: Mapping[str, Any]
    environment: Mapping[str, str]
    system_packages: tuple[str, ...] = ()
