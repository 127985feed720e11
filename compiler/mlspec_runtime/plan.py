"""The `runtime` block of plan.json: all that a bundle knows about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from mlspec_runtime import RUNTIME_API

PLAN_FILE = "plan.json"


class PlanError(ValueError):
    """plan.json can't be read; the message says where and what to do."""


@dataclass(frozen=True)
class ServiceInfo:
    name: str
    project: str
    target: str
    description: str = ""


@dataclass(frozen=True)
class RunnerInfo:
    """`module` is imported and has `create(context)`; `settings` is the runner's own."""

    name: str
    module: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """`concurrency` requests are computed at once and `queue` more wait; `timeout_s` holds for both together.

    A batch, or one prompt's choices, are `max_batch` at most. Once the service is told to end, what was accepted may go
    on for `drain_s`.
    """

    max_tokens: int
    timeout_s: float
    max_body_bytes: int
    concurrency: int
    queue: int
    max_batch: int = 64
    drain_s: float = 30.0


@dataclass(frozen=True)
class GovernorSettings:
    """How the service reacts to heat: `reader` tells of it, looked at every `poll_s`; a step up comes after `recover_s`
    of calm; below `slowdown` of its usual speed it counts as slow; those who are refused may come again after
    `retry_after_s`. `cooling` is the computer's.
    """

    reader: Literal["macos", "none"] = "none"
    cooling: Literal["passive", "laptop", "desktop", "virtual", "unknown"] = "unknown"
    poll_s: float = 5.0
    recover_s: float = 60.0
    slowdown: float = 0.7
    retry_after_s: float = 15.0


@dataclass(frozen=True)
class Auth:
    """Who asks must send one of the keys that the variable `api_key_env` holds, separated by commas."""

    api_key_env: str


@dataclass(frozen=True)
class ResponseCache:
    """Answers of deterministic requests: where they are kept, and how many at most."""

    store: Literal["off", "memory", "file"] = "off"
    entries: int = 512
    max_bytes: int = 64 << 20


@dataclass(frozen=True)
class Logging:
    """How log lines look, and whether prompts and answers may be in them."""

    format: Literal["text", "json"] = "text"
    prompts: bool = False


@dataclass(frozen=True)
class Environment:
    """Variables that the bundle sets (the operator's own values win) and those that must be set."""

    set: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedFile:
    """A file of a model. `hashed: header` is the hash of a tensor file's length prefix and JSON header
    alone.
    """

    path: str
    size_bytes: int
    sha256: str
    hashed: Literal["content", "header"]


@dataclass(frozen=True)
class Derivation:
    """Served is not the model itself, but what the build made of it: `key` is the digest of model and settings."""

    key: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedModel:
    """A model by its role: `base`, `adapters/support`, `artifacts`.

    `content` is the digest of all its files' whole content, where the build knew it. With `derived`, `files` and
    `content` are those of the model that the served one was made of.
    """

    role: str
    source: Mapping[str, str]
    files: tuple[PlannedFile, ...]
    content: str | None = None
    derived: Derivation | None = None


@dataclass(frozen=True)
class RuntimePlan:
    runtime_api: int
    service: ServiceInfo
    task: str
    runner: RunnerInfo
    endpoints: tuple[str, ...]
    limits: Limits
    environment: Environment = field(default_factory=Environment)
    models: tuple[PlannedModel, ...] = ()
    governor: GovernorSettings = field(default_factory=GovernorSettings)
    auth: Auth | None = None
    cors_origins: tuple[str, ...] = ()
    response_cache: ResponseCache = field(default_factory=ResponseCache)
    logging: Logging = field(default_factory=Logging)
    tracing: bool = False


def load_plan(bundle: Path) -> RuntimePlan:
    """Read `bundle`/plan.json. Raises PlanError if it is missing, broken or for another runtime."""
    path = bundle / PLAN_FILE
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}; build the bundle again") from error
    except ValueError as error:
        raise PlanError(f"{path}: not JSON ({error}); build the bundle again") from error
    return parse_plan(document, str(path))


def parse_plan(document: Any, name: str = PLAN_FILE) -> RuntimePlan:
    """The `runtime` block of a whole plan. Raises PlanError."""
    block = document.get("runtime") if isinstance(document, dict) else None
    if not isinstance(block, dict):
        raise PlanError(f"{name}: there is no 'runtime' block; build the bundle again")
    if block.get("runtime_api") != RUNTIME_API:
        raise PlanError(
            f"{name}: written for runtime_api {block.get('runtime_api')!r}; this runtime reads {RUNTIME_API}: "
            "plan.json and mlspec_runtime/ must come from the same build"
        )
    try:
        return TypeAdapter(RuntimePlan).validate_python(block)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, ("runtime", *first["loc"])))
        raise PlanError(f"{name}: {where}: {first['msg']}; build the bundle again") from error
