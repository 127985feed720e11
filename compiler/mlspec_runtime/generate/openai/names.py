"""What a service's models are called in OpenAI's API."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import get_args

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.messages import GenerateRequest
from mlspec_runtime.plan import PlanError, RuntimePlan
from mlspec_runtime.protocol import Runner

BASE = "base"
_SHOWN = 8


@dataclass(frozen=True)
class ModelNames:
    """`adapters` by the names that a request's `model` may have: the service's is its default adapter, "base" none."""

    service: str
    default: str
    adapters: dict[str, str]

    def adapter(self, model: str | None) -> str:
        """The adapter to ask. Raises ServiceError (404) for a name that isn't served."""
        if model is None:
            return self.default
        if model not in self.adapters:
            raise ServiceError(
                "model_not_found", f"there is no such model here, but {self._told()}", 404, field="model"
            )
        return self.adapters[model]

    def _told(self) -> str:
        names = list(self.adapters)
        more = f" and {len(names) - _SHOWN} more, listed by /v1/models" if len(names) > _SHOWN else ""
        return ", ".join(f"'{name}'" for name in names[:_SHOWN]) + more


def model_names(plan: RuntimePlan, runner: Runner) -> ModelNames:
    """Of this service. An adapter's own name comes before the service's. Raises PlanError for a runner whose requests
    aren't those of the task.
    """
    if not issubclass(runner.request_type, GenerateRequest):
        message = f"the runner '{plan.runner.name}' takes no GenerateRequest, so it has no endpoints of OpenAI's API"
        raise PlanError(f"{message}; leave 'chat' and 'completions' out of service.endpoints")
    field = runner.request_type.model_fields["adapter"]
    names = [name for name in get_args(field.annotation) if isinstance(name, str)] or [BASE]
    service, default = plan.service.name, field.default or BASE
    return ModelNames(service, default, {service: default, **{name: name for name in names}})


def fingerprint(plan: RuntimePlan) -> str:
    """`system_fingerprint`: another one for other weights, or for a runner with other settings."""
    served = {"models": [asdict(model) for model in plan.models], "runner": asdict(plan.runner)}
    digest = hashlib.sha256(json.dumps(served, sort_keys=True, default=dict).encode()).hexdigest()
    return f"fp_{digest[:12]}"
