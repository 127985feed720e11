"""plan: everything that can be decided before run time, each value with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlspec.backends import Backend
from mlspec.diagnostics import Report
from mlspec.model.document import Document
from mlspec.model.facts import ModelFacts
from mlspec.model.plan import RUNTIME_API, Decision, Derivation, Plan, Resolved, RunnerPlan
from mlspec.model.spec import Spec
from mlspec.passes.governor import governor, governor_decision
from mlspec.passes.inspect import ModelFaults
from mlspec.passes.project_files import copied_user_files, user_files
from mlspec.passes.service import service_block, service_decisions
from mlspec.requirements import overridden, pins
from mlspec.runners import Runner
from mlspec.workspace import Workspace

_RUNTIME = Path(__file__).parent.parent.parent / "mlspec_runtime"


def plan(
    resolved: Resolved, runner: Runner, backend: Backend, document: Document, workspace: Workspace, report: Report
) -> Plan | None:
    """The plan of one target; None after a fault was reported."""
    spec, target = resolved.spec, resolved.target
    decided = runner.plan(spec, resolved.facts, target, ModelFaults(document, report))
    more = decided.requirements if decided is not None else ()
    requirements = _requirements(runner, backend, resolved, more, document, report)
    copied = _copied(resolved, runner, document, workspace, report)
    if decided is None or requirements is None or copied is None:
        return None
    environment = {**decided.environment, **{e.name: e.value for e in spec.service.env if e.value is not None}}
    required = _required_environment(spec)
    task = spec.task or runner.tasks[0]
    return Plan(
        resolved=resolved,
        task=task,
        decisions=(
            *_target_decisions(resolved),
            *decided.decisions,
            *service_decisions(spec, task),
            governor_decision(target, task),
            *backend.decide(resolved, decided),
        ),
        runtime=_runtime(resolved, runner, decided, task, environment, required),
        environment=environment,
        required_environment=required,
        system_packages=decided.system_packages,
        requirements=requirements,
        copied=copied,
        links={f"models/{found.ref.role}": found.folder for found in resolved.located},
        memory=decided.memory,
        speed=decided.speed,
        derivations=decided.derivations,
    )


def _required_environment(spec: Spec) -> tuple[str, ...]:
    """Variables that must be set where the service starts, in the order of the spec."""
    auth = spec.service.auth
    names = [variable.name for variable in spec.service.env if variable.value is None]
    return tuple(dict.fromkeys([*names, *((auth.api_key_env,) if auth else ())]))


def _target_decisions(resolved: Resolved) -> tuple[Decision, ...]:
    target = resolved.target
    given = next(t for t in resolved.spec.targets if t.name == target.name)
    index = resolved.spec.targets.index(given)
    values = (
        ("accelerator", given.accelerator, target.accelerator),
        ("arch", given.arch, target.arch),
        ("python", given.python if "python" in given.model_fields_set else None, target.python),
    )
    return tuple(
        Decision(
            f"target.{key}",
            value,
            "as the spec says" if written else f"the default for {target.platform}",
            (f"spec:/targets/{index}/{key if written else 'platform'}",),
            given=bool(written),
        )
        for key, written, value in values
    )


def _runtime(
    resolved: Resolved,
    runner: Runner,
    decided: RunnerPlan,
    task: str,
    environment: Mapping[str, str],
    required: tuple[str, ...],
) -> dict[str, Any]:
    """The block that the bundle reads; `mlspec_runtime.plan` is its reader."""
    spec = resolved.spec
    return {
        "runtime_api": RUNTIME_API,
        "service": {
            "name": spec.metadata.name,
            "project": spec.metadata.project,
            "target": resolved.target.name,
            "description": spec.metadata.description,
        },
        "task": task,
        "runner": {
            "name": runner.name,
            "module": f"mlspec_runtime.runners.{runner.package}.runtime",
            "settings": dict(decided.settings),
        },
        **service_block(spec, task),
        "limits": {**dict(spec.service.limits), "concurrency": decided.concurrency},
        "environment": {"set": dict(environment), "required": list(required)},
        "governor": governor(resolved.target),
        "models": [_model(facts, decided.derivations) for facts in resolved.facts.models],
    }


def _model(facts: ModelFacts, derivations: Iterable[Derivation]) -> dict[str, Any]:
    """What the bundle knows of a model: its files, or where the package step makes another one of it, which."""
    model: dict[str, Any] = {"role": facts.ref.role, "source": facts.ref.source.key()}
    if facts.content is not None:
        model["content"] = facts.content
    for derivation in derivations:
        if derivation.role == facts.ref.role:
            model["derived"] = {"key": derivation.key, "settings": dict(derivation.settings)}
    return {**model, "files": [vars(file) for file in facts.files]}


def _copied(
    resolved: Resolved, runner: Runner, document: Document, workspace: Workspace, report: Report
) -> dict[str, Path] | None:
    """What goes into the bundle as it is: the serve-time library, the runner's part of it, the user's files."""
    library = {f"mlspec_runtime/{p.relative_to(_RUNTIME).as_posix()}": p for p in sorted(_RUNTIME.rglob("*.py"))}
    own = {f"mlspec_runtime/runners/{name}": path for name, path in runner.runtime_files(resolved.spec.model).items()}
    user = copied_user_files(user_files(resolved.spec, runner), document, workspace, report)
    return None if user is None else {**library, **own, **user}


def _requirements(
    runner: Runner,
    backend: Backend,
    resolved: Resolved,
    more: tuple[str, ...],
    document: Document,
    report: Report,
) -> tuple[str, ...] | None:
    """The union of what runner and backend pin; two versions of one package are a fault. `more` is what the runner's
    plan needs beside its own.
    """
    ours = overridden(more, runner.requirements(resolved.spec.model, resolved.target))
    theirs = backend.requirements(resolved.target)
    of_runner, of_backend = pins(ours), pins(theirs)
    differing = [name for name in sorted(of_runner.keys() & of_backend.keys()) if of_runner[name] != of_backend[name]]
    for name in differing:
        message = f"two versions of {name}: the runner pins {of_runner[name]}, the backend {of_backend[name]}"
        help = f"take the version that {backend.name} was tested with"
        report.error("requirements-conflict", message, document.value_span(("model", "requirements")), help=help)
    return None if differing else tuple(sorted({*ours, *theirs}))
