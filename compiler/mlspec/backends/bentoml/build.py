"""The build side of BentoML: the service, `bentofile.yaml` and, for Linux, the Dockerfile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.backends import BACKEND_API
from mlspec.backends.bentoml.monitoring import monitoring
from mlspec.model.plan import Decision, Plan, Resolved, RunnerPlan
from mlspec.model.spec import Tracing
from mlspec.model.target import Target

_HERE = Path(__file__).parent
SERVICE = "service:ModelService"

TIMEOUT_MARGIN_S = 60
"""BentoML's own timeout lies this far above the service's, which answers first and in its own shape."""

END_MARGIN_S = 20
"""What the runtime takes at most to free the model and end, after what was accepted has had its `drain_s`."""

# Past any proxy: Docker and podman put the host's http_proxy into containers.
_HEALTH_SCRIPT = (
    "import os, urllib.request as r; "
    "r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['PORT'] + '/health')"
)
_HEALTH_COMMAND = ["python", "-c", _HEALTH_SCRIPT]


class BentomlBackend:
    """The backend `bentoml`."""

    backend_api = BACKEND_API
    name = "bentoml"
    modules = ("bentoml", "fastapi", "fastapi_swagger", "prometheus_client")

    def decide(self, resolved: Resolved, runner: RunnerPlan) -> tuple[Decision, ...]:
        timeout_s = resolved.spec.service.limits.timeout_s
        above = f"{TIMEOUT_MARGIN_S} s above limits.timeout_s: the service's own deadline answers first"
        limits = ("spec:/service/limits/timeout_s",)
        one = "each worker would hold the weights once more"
        image = "an image whose glibc is 2.35 or later, as MLX's wheels need it"
        decisions = [
            Decision("serving.workers", 1, one, (), ("cpu_count",)),
            Decision("serving.timeout_s", math.ceil(timeout_s) + TIMEOUT_MARGIN_S, above, limits),
            Decision("serving.port", 3000, "BentoML's usual port; `--port` changes it"),
            Decision("serving.host", "127.0.0.1", "loopback unless told otherwise", (), ("0.0.0.0",)),  # noqa: S104
            _stop_timeout(resolved.spec.service.limits.drain_s),
            _tracing(resolved.spec.service.tracing),
        ]
        if resolved.target.platform == "linux":
            base = f"python:{resolved.target.python}-slim-bookworm"
            decisions.append(Decision("serving.base_image", base, image, ("target:python",), ("alpine",)))
            decisions.append(Decision("serving.health_command", _HEALTH_COMMAND, "asks /health at the port in use"))
        return tuple(decisions)

    def requirements(self, target: Target) -> tuple[str, ...]:
        text = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8")
        return tuple(text.splitlines())

    def templates(self, target: Target) -> Mapping[str, str]:
        common = {"service.py": "bentoml/service.py.j2", "README.md": "bentoml/README.md.j2"}
        if target.platform != "linux":
            return common
        image = {"Dockerfile": "bentoml/linux/Dockerfile.j2", ".dockerignore": "bentoml/linux/dockerignore.j2"}
        return {**common, **image}

    def documents(self, plan: Plan) -> Mapping[str, Mapping[str, Any]]:
        return {"bentofile.yaml": _bentofile(plan), **monitoring(plan)}

    def command(self, python: str, host: str, port: int) -> list[str]:
        return [python, "-m", "bentoml", "serve", SERVICE, "--host", host, "--port", str(port)]


def _stop_timeout(drain_s: float) -> Decision:
    above = f"{END_MARGIN_S} s above limits.drain_s: what ends the service must wait as long before it kills it"
    value = math.ceil(drain_s) + END_MARGIN_S
    return Decision("serving.stop_timeout_s", value, above, ("spec:/service/limits/drain_s",), ("10: docker's own",))


def _tracing(tracing: Tracing | None) -> Decision:
    key, pointer = "serving.tracing", "spec:/service/tracing"
    if tracing is None:
        return Decision(key, None, "no traces, and so no spans at all", (pointer,))
    value = {"exporter": tracing.exporter, "sample_rate": float(tracing.sample_rate)}
    rule = "as the spec says; the service makes the spans, BentoML samples and sends them"
    return Decision(key, value, rule, (pointer,), ("BentoML's own spans",), given=True)


def _bentofile(plan: Plan) -> dict[str, Any]:
    metadata = plan.spec.metadata
    folders = sorted({path.partition("/")[0] for path in plan.copied})
    environment = [{"name": name, "value": value} for name, value in sorted(plan.environment.items())]
    environment += [{"name": name} for name in sorted(plan.required_environment)]
    return {
        "service": SERVICE,
        "name": metadata.name,
        "description": metadata.description or f"{metadata.name} of {metadata.project}",
        "labels": {**metadata.labels, "mlspec-project": metadata.project, "mlspec-target": plan.target.name},
        "include": ["service.py", "plan.json", "requirements.txt", "README.md", *(f"{f}/**" for f in folders)],
        "python": {"requirements_txt": "./requirements.txt", "lock_packages": False},
        "docker": {"python_version": plan.target.python, "system_packages": list(plan.system_packages)},
        "envs": environment,
    }


PART = BentomlBackend()
