"""Rules over several values of a spec. They see data that may still have faults elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.model.endpoints import OF_TASK
from mlspec.model.spec import Limits
from mlspec.passes.validate.checker import shipped
from mlspec.passes.validate.findings import Findings
from mlspec.passes.validate.origins import origin_fault
from mlspec.runners import Faults, Runner
from mlspec.suggest import closest, did_you_mean, listed
from mlspec.tensors.plan import TensorModelPlanner

_BASE = "base"
_ADAPTERS = "adapters/"
_OF_TENSORS = ("batching", "inputs", "outputs", "pre", "post")
_MOST_SUGGESTIONS = 50
_NOT_FOUND = 404
_OF_EVERY_PROCESS = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "LANG", "TERM", "TMPDIR", "_")
"""Variables that are set wherever a service starts: what they hold is no secret."""


@dataclass(frozen=True)
class ModelFaults:
    """A runner's own rules report here; their pointers are within the `model` block."""

    findings: Findings
    block: str = "model"

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.findings.error(code, message, (self.block, *pointer), help=help)

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.findings.warning(code, message, (self.block, *pointer), help=help)

    def of_service(self) -> Faults:
        return replace(self, block="service")


def check_tests(data: Any, model: Any, runner: Runner, findings: Findings) -> None:
    """A test that wants an answer names an adapter that the model has."""
    roles = [ref.role for ref in runner.models(model)]
    if _BASE not in roles:
        return
    names = [_BASE, *(r.removeprefix(_ADAPTERS) for r in roles if r.startswith(_ADAPTERS))]
    for index, test in enumerate(data.get("tests", ())):
        adapter = test["predict"].get("adapter") or _BASE
        if test.get("expect", {}).get("status", 200) < 400 and adapter not in names:
            message = f"the model has no adapter {quoted(adapter)}"
            help = did_you_mean(adapter, names) or f"it has {listed(names)}; a test of the refusal expects status 422"
            findings.error("unknown-adapter", message, ("tests", index, "predict", "adapter"), help=help)


def check_adapter_names(data: Any, model: Any, runner: Runner, findings: Findings) -> None:
    """A request's `model` may name the service, and then means the default adapter, or an adapter: one name can't be
    two adapters.
    """
    name = _at(data, ("metadata", "name"))
    adapters = [ref for ref in runner.models(model) if ref.role.startswith(_ADAPTERS)]
    default = _at(data, ("model", "default_adapter")) or (adapters[0].role.removeprefix(_ADAPTERS) if adapters else "")
    for ref in adapters:
        if ref.role == f"{_ADAPTERS}{name}" and name != default:
            message = f"{quoted(name)} is the service's own name, by which requests ask for its default adapter"
            pointer = ("model", *ref.pointer, "name")
            findings.error("reserved-name", message, pointer, help="give the adapter another name")


def check_task(data: Any, runner: Runner, findings: Findings) -> None:
    """The runner can do what the spec asks for."""
    task = data["model"].get("task", runner.tasks[0])
    if task not in runner.tasks:
        message = f"the runner {quoted(runner.name)} has no task {quoted(task)}"
        findings.error("unknown-value", message, ("model", "task"), help=f"it can {listed(runner.tasks)}")


def check_endpoints(data: Any, runner: Runner, findings: Findings) -> None:
    """A model of this task can be asked at these endpoints."""
    task = data["model"].get("task", runner.tasks[0])
    for index, name in enumerate(_at(data, ("service", "endpoints")) or ()):
        if task in OF_TASK and name not in OF_TASK[task]:
            message = f"a model of the task {quoted(task)} has no endpoint {quoted(name)}"
            pointer = ("service", "endpoints", index)
            findings.error("unknown-value", message, pointer, help=f"it has {listed(OF_TASK[task])}")


def check_tensor_keys(data: Any, runner: Runner, findings: Findings) -> None:
    """Batches, signatures and steps are for models of tensors."""
    if isinstance(runner, TensorModelPlanner):
        return
    for key in _OF_TENSORS:
        if _at(data, ("service", key)) is not None:
            message = f"service.{key} is for models of tensors; the runner {quoted(runner.name)} serves none"
            findings.error("unknown-key", message, ("service", key), at="key", help="leave it out")


def check_test_endpoints(data: Any, findings: Findings) -> None:
    """Tests ask `POST /predict`: a service without it answers that there is nothing."""
    offered = _at(data, ("service", "endpoints"))
    if not isinstance(offered, list) or "predict" in offered:
        return
    for index, test in enumerate(data.get("tests", ())):
        if test.get("expect", {}).get("status") != _NOT_FOUND:
            message = "the service has no endpoint 'predict' (service.endpoints), which tests ask"
            help = "add predict to service.endpoints, or leave the tests out"
            findings.error("unknown-value", message, ("tests", index, "predict"), at="key", help=help)


def check_access(data: Any, findings: Findings) -> None:
    """The API key comes from outside, and origins are those that a browser sends."""
    _check_key_variable(data, findings)
    _check_origins(_at(data, ("service", "cors", "origins")), findings)


def _check_key_variable(data: Any, findings: Findings) -> None:
    variable = _at(data, ("service", "auth", "api_key_env"))
    variables = _at(data, ("service", "env"))
    for index, given in enumerate(variables if isinstance(variables, list) else ()):
        if isinstance(given, dict) and variable is not None and given.get("name") == variable and "value" in given:
            message = f"{quoted(str(variable))} is the API key's variable, and has its value here"
            help = "leave the value out: it must be set where the service starts"
            findings.error("secret", message, ("service", "env", index, "value"), help=help)
    if isinstance(variable, str) and variable in _OF_EVERY_PROCESS:
        message = f"every process has the variable {quoted(variable)}: it would be the key, and many know it"
        help = "name a variable of its own, as in SUPPORT_API_KEY"
        findings.error("env-name", message, ("service", "auth", "api_key_env"), help=help)


def _check_origins(origins: Any, findings: Findings) -> None:
    if not isinstance(origins, list):
        return
    for index, origin in enumerate(origins):
        if fault := origin_fault(origin) if isinstance(origin, str) else None:
            message = f"no page has the origin {quoted(str(origin))}: {fault[0]}"
            findings.error("bad-value", message, ("service", "cors", "origins", index), help=fault[1])
    if len(origins) > 1 and "*" in origins:
        pointer = ("service", "cors", "origins", origins.index("*"))
        findings.error("bad-value", "'*' is every origin: no other adds to it", pointer, help="name the others alone")


def check_limits(data: Any, findings: Findings) -> None:
    """What a request gets by default must not be more than what it may ask for, nor than the model's context."""
    given = _number(data, ("model", "sampling", "max_tokens"))
    if given is None:
        return
    pointer = ("model", "sampling", "max_tokens")
    limit, context = _limit(data), _number(data, ("model", "context_length"))
    if limit is not None and given > limit:
        message = f"requests get {given:,} tokens by default, and may ask for {limit:,} (service.limits.max_tokens)"
        findings.error("limit-conflict", message, pointer, help=f"lower it to {limit}, or raise the limit")
    elif context is not None and given > context:
        message = f"requests get {given:,} tokens by default, and a context has {context:,} (model.context_length)"
        help = "lower it, or raise model.context_length: prompt and answer share the context"
        findings.error("limit-conflict", message, pointer, help=help)


def _limit(data: Any) -> int | None:
    """The most tokens that a request may ask for; None if what is written there is no number."""
    pointer = ("service", "limits", "max_tokens")
    return Limits.model_construct().max_tokens if _at(data, pointer) is None else _number(data, pointer)


def check_keys_without_runner(data: Any, findings: Findings) -> None:
    """Without a runner the schema knows no other key of `model`: keys that are nearly one of a built-in runner's."""
    model = data.get("model") if isinstance(data, dict) else None
    if not isinstance(model, dict) or "runner" in model:
        return
    known = _keys_of_built_in_runners()
    unused = [key for key in known if key not in model]
    unknown = (key for key in model if key not in known and not key.startswith("x-"))
    for key in islice(unknown, _MOST_SUGGESTIONS):
        near = closest(key, unused)
        if near == "runner":
            findings.leave_out(("model", "runner"))
        if near:
            message = f"{quoted(key)} is not a key of model"
            findings.error("unknown-key", message, ("model", key), at="key", label=f"did you mean '{near}'?")


def _keys_of_built_in_runners() -> set[str]:
    schema = shipped("mlspec")
    blocks = (branch["then"]["$ref"].rpartition("/")[2] for branch in schema["$defs"]["model"]["allOf"])
    return {key for block in blocks for key in schema["$defs"][block]["properties"]}


def _number(data: Any, pointer: Pointer) -> int | None:
    found = _at(data, pointer)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _at(data: Any, pointer: Pointer) -> Any:
    for step in pointer:
        data = data.get(step) if isinstance(data, dict) else None
    return data
