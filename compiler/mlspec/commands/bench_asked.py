"""What `mlspec bench` asks, by its options, the spec and its plan."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from mlspec.bench.connection import Place
from mlspec.bench.record import Asked
from mlspec.bench.tensors import generated
from mlspec.bench.workload import PATHS, EndpointName, Workload
from mlspec.errors import CommandError
from mlspec.model.plan import Plan
from mlspec.pipeline import Checked

_MIX = "mix"
_BASE = "base"
_PREFERRED: tuple[EndpointName, ...] = ("stream", "chat", "completions", "predict")
_OF_LANGUAGE = ("prompt_tokens", "max_tokens", "shared_prefix", "adapters")
_PROMPT_TOKENS = 64


def check_url(url: str) -> None:
    """Raises CommandError if it is no URL of a service, or its host isn't known."""
    try:
        Place.of(url)
    except ValueError as problem:
        raise CommandError("usage", f"--url: {problem}", "as in --url http://127.0.0.1:3000") from problem
    except OSError as problem:
        raise CommandError("no-such-host", f"--url: the host of {url} isn't known", "is its name right?") from problem


def workload_of(options: Namespace, checked: Checked, plan: Plan) -> Workload:
    """Raises CommandError for what doesn't go together with the spec."""
    generates = plan.task == "generate"
    _check_rows(options, generates)
    if not generates:
        _check_tensors(options)
    elif options.url is None or options.target is not None:
        _check_tokens(options, plan)
    endpoint = _endpoint(options, plan)
    rows = None if generates else _rows(options, checked)
    bodies = _bodies(options, checked, plan, rows)
    return Workload(
        endpoint=endpoint,
        task=plan.task,
        bodies=bodies,
        rows=rows,
        prompt_tokens=options.prompt_tokens or _PROMPT_TOKENS,
        max_tokens=options.max_tokens,
        most_tokens=plan.runtime["limits"]["max_tokens"],
        shared_prefix=options.shared_prefix,
        adapters=_adapters(options.adapters, checked),
        repeat=options.repeat,
        seed=options.seed,
        headers=_headers(options, plan),
    )


def asked_of(options: Namespace, workload: Workload) -> Asked:
    """The same in words, to be kept."""
    return Asked(
        endpoint=PATHS[workload.endpoint],
        prompts=_prompts(workload),
        max_tokens=options.max_tokens,
        requests=options.requests,
        duration_s=options.duration,
        adapters=workload.adapters,
        shared_prefix=workload.shared_prefix,
        repeat=workload.repeat,
        seed=workload.seed,
    )


def _prompts(workload: Workload) -> str:
    if workload.rows is not None:
        return f"generated requests of {workload.rows} row{'' if workload.rows == 1 else 's'}"
    return "its tests' requests" if workload.bodies else f"prompts of {workload.prompt_tokens} words"


def _check_tensors(options: Namespace) -> None:
    given = [name for name in _OF_LANGUAGE if getattr(options, name)]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise CommandError("usage", f"{flag} is for language models; this one takes tensors", f"leave {flag} out")


def _check_rows(options: Namespace, generates: bool) -> None:
    if options.rows and generates:
        raise CommandError("usage", "--rows is for models of tensors; this one generates text", "leave --rows out")


def _check_tokens(options: Namespace, plan: Plan) -> None:
    """Raises CommandError for more than the service lets a request ask for, or its context holds."""
    limit, context = plan.runtime["limits"]["max_tokens"], _context_length(plan)
    if options.max_tokens is not None and options.max_tokens > limit:
        message = f"--max-tokens {options.max_tokens}: a request may ask for {limit} (service.limits.max_tokens)"
        raise CommandError("usage", message, f"ask for {limit} at most, or raise the limit in the spec")
    if context is None:
        return
    for flag, tokens in (("--prompt-tokens", options.prompt_tokens), ("--shared-prefix", options.shared_prefix)):
        if tokens and tokens >= context:
            message = f"{flag} {tokens}: a context has {context} tokens, and the answer's are among them"
            raise CommandError("usage", message, "ask with fewer, or raise model.context_length in the spec")


def _context_length(plan: Plan) -> int | None:
    found = next((one.value for one in plan.decisions if one.key == "model.context_length"), None)
    return found if isinstance(found, int) else None


def _endpoint(options: Namespace, plan: Plan) -> EndpointName:
    """The one that was asked for; else the first that tells most: streams show the first token."""
    offered: tuple[str, ...] = tuple(plan.runtime["endpoints"])
    wanted: EndpointName | None = options.endpoint
    if wanted is not None and wanted not in offered and options.url is None:
        raise CommandError("usage", f"the service has no endpoint '{wanted}'", f"it has {', '.join(offered)}")
    preferred = _PREFERRED if plan.task == "generate" else ("predict", "stream")
    found = wanted or next((name for name in preferred if name in offered), None)
    if found is None:
        help = f"it has {', '.join(offered)}; add predict or stream to service.endpoints"
        raise CommandError("usage", "the service has no endpoint that can be measured", help)
    return found


def _rows(options: Namespace, checked: Checked) -> int | None:
    """Of requests to be made up for a model of tensors; None where the tests' are asked."""
    rows: int | None = options.rows
    return rows or (None if _fine(checked) else 1)


def _fine(checked: Checked) -> list[Mapping[str, Any]]:
    return [test.predict for test in checked.spec.tests if test.expect.status == 200]


def _bodies(options: Namespace, checked: Checked, plan: Plan, rows: int | None) -> tuple[Mapping[str, Any], ...]:
    """The tests' requests that are to be answered; none where prompts are to be generated."""
    if rows is not None:
        return generated(plan.runtime["runner"]["settings"]["requests"]["inputs"], rows, options.seed)
    if plan.task != "generate":
        return tuple(_fine(checked))
    if options.prompt_tokens:
        return ()
    return tuple(body for body in _fine(checked) if body.get("prompt") or body.get("messages"))


def _adapters(wanted: str | None, checked: Checked) -> tuple[str, ...]:
    names = tuple(adapter.name for adapter in getattr(checked.spec.model, "adapters", ()))
    if wanted is None or wanted == _BASE:
        return (_BASE,) if wanted else ()
    if wanted == _MIX and names:
        return names
    if wanted in names:
        return (wanted,)
    has = f"it has {', '.join((*names, _BASE))}" if names else "it has none"
    raise CommandError("usage", f"--adapters {wanted}: the spec has no such adapter", has)


def _headers(options: Namespace, plan: Plan) -> tuple[tuple[str, str], ...]:
    """The API key's; the first where the variable holds several."""
    auth = plan.runtime.get("auth")
    name = options.api_key_env or (auth["api_key_env"] if auth else None)
    if name is None:
        return ()
    keys = [key.strip() for key in os.environ.get(name, "").split(",") if key.strip()]
    if not keys or not (keys[0].isascii() and keys[0].isprintable()):
        raise CommandError("no-api-key", f"{name} holds no API key", f"set it: export {name}=…")
    return (("Authorization", f"Bearer {keys[0]}"),)
