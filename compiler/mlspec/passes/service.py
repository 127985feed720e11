"""What the service offers and to whom, whatever its runner: endpoints, keys, kept answers, logs."""

from __future__ import annotations

from typing import Any

from mlspec.model.endpoints import OF_TASK
from mlspec.model.plan import Decision
from mlspec.model.spec import Spec

MIB = 1 << 20


def endpoints(spec: Spec, task: str) -> tuple[str, ...]:
    """Those that the spec names, else all that the task has."""
    return spec.service.endpoints or OF_TASK[task]


def service_block(spec: Spec, task: str) -> dict[str, Any]:
    """The parts of the block `runtime` of plan.json that come from the spec's `service`."""
    service = spec.service
    cache = service.response_cache
    return {
        "endpoints": list(endpoints(spec, task)),
        "auth": None if service.auth is None else dict(service.auth),
        "cors_origins": [] if service.cors is None else list(service.cors.origins),
        "response_cache": {"store": cache.store, "entries": cache.entries, "max_bytes": cache.max_mb * MIB},
        "logging": dict(service.logging),
        "tracing": service.tracing is not None,
    }


def service_decisions(spec: Spec, task: str) -> tuple[Decision, ...]:
    """The same, each with its reason."""
    return (_endpoints(spec, task), _access(spec), _response_cache(spec))


def _endpoints(spec: Spec, task: str) -> Decision:
    given, key = spec.service.endpoints, "service.endpoints"
    if given is not None:
        rejected = tuple(f"{name}: the spec leaves it out" for name in OF_TASK[task] if name not in given)
        return Decision(key, list(given), "as the spec says", ("spec:/service/endpoints",), rejected, given=True)
    return Decision(key, list(OF_TASK[task]), f"all that the task {task} has", ("spec:/service/endpoints",))


def _access(spec: Spec) -> Decision:
    key, auth = "service.auth", spec.service.auth
    if auth is None:
        rule = "no key is asked for: whoever reaches the port, which is on loopback unless told otherwise, may ask"
        return Decision(key, None, rule, ("spec:/service/auth",))
    rule = "as the spec says; without the variable the service refuses to start"
    return Decision(key, auth.api_key_env, rule, ("spec:/service/auth/api_key_env",), given=True)


def _response_cache(spec: Spec) -> Decision:
    key, pointer = "service.response_cache", "spec:/service/response_cache"
    cache = spec.service.response_cache
    value = None if cache.store == "off" else {"store": cache.store, "entries": cache.entries, "mb": cache.max_mb}
    if "response_cache" in spec.service.model_fields_set:
        return Decision(key, value, "as the spec says", (pointer,), given=True)
    rule = "an answer that can't be another one is kept and not computed again; it goes with the process"
    return Decision(key, value, rule, (pointer,), ("file: answers are private", "off"))
