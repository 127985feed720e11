"""What a bundle brings for Prometheus and Grafana: a dashboard and alert rules, as data. They go by names that the
runtime's `metrics.py` gives, and by the labels `service`, `project` and `target` of `mlspec_model_loaded`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.backends.bentoml.dashboard import COMPUTING, dashboard
from mlspec.model.plan import Plan

DASHBOARD = "monitoring/dashboard.json"
ALERTS = "monitoring/alerts.yaml"


def monitoring(plan: Plan) -> Mapping[str, Mapping[str, Any]]:
    """The documents by their path in the bundle."""
    return {DASHBOARD: dashboard(plan), ALERTS: _alerts(plan)}


def _alerts(plan: Plan) -> dict[str, Any]:
    """A rule file of Prometheus for this one service."""
    metadata, target = plan.spec.metadata, plan.target.name
    limits = plan.runtime["limits"]
    labels = {"service": metadata.name, "project": metadata.project, "target": target}
    group = f"mlspec-{metadata.project}-{metadata.name}-{target}"
    return {"groups": [{"name": group, "rules": [_rule(labels, *rule) for rule in _rules(labels, limits)]}]}


Rule = tuple[str, str, str, str, str]
"""Name, expression, for how long, severity, and what to tell."""


def _rule(labels: Mapping[str, str], name: str, expression: str, lasting: str, severity: str, told: str) -> Any:
    about = f"{labels['service']} ({labels['project']}, {labels['target']})"
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": f"{about}: {told}"},
    }


def _rules(labels: Mapping[str, str], limits: Mapping[str, Any]) -> list[Rule]:
    """The service's own series are found by `instance`: only `mlspec_model_loaded` has its name."""
    own = f"mlspec_model_loaded{_selector(labels)}"
    here = f" and on (job, instance) {own}"
    total = f"sum by (job, instance) (rate(mlspec_requests_total{{{COMPUTING}}}[5m])){here}"
    failed = f'sum by (job, instance) (rate(mlspec_requests_total{{status=~"5..",{COMPUTING}}}[5m]))'
    queue = limits["queue"]
    waited = "sum by (job, instance, le) (rate(mlspec_time_to_first_token_seconds_bucket[10m]))"
    memory = 'mlspec_memory_bytes{kind="active"} / ignoring (kind) mlspec_memory_bytes{kind="limit"}'
    slow_s = limits["timeout_s"] / 4
    return [
        ("MlspecDown", f"absent({own})", "2m", "critical", "no metrics of it; it is down, or isn't scraped"),
        ("MlspecNotReady", f"mlspec_ready == 0{here}", "5m", "critical", "it takes no requests; ask /health why"),
        ("MlspecErrors", f"({failed} / ({total})) > 0.05", "5m", "critical", "more than 5 % of requests fail"),
        (
            "MlspecQueueFull",
            f"mlspec_queue_depth >= {_number(0.9 * queue)}{here}" if queue else f"{_refused('queue_full')} > 0{here}",
            "5m",
            "warning",
            "requests are refused, or soon will be: the queue is full",
        ),
        (
            "MlspecSlowFirstToken",
            f"histogram_quantile(0.95, {waited}) > {_number(slow_s)}{here}",
            "10m",
            "warning",
            f"one request in twenty waits over {_number(slow_s)} s for its first token",
        ),
        ("MlspecMemoryNearLimit", f"{memory} > 0.95{here}", "5m", "warning", "its memory is near the limit"),
        ("MlspecHot", f"mlspec_thermal_level >= 2{here}", "5m", "warning", "the computer is hot, so it does less"),
        (
            "MlspecRestarts",
            f"increase(mlspec_process_starts_total[30m]) > 1.5{here}",
            "1m",
            "warning",
            "its process was replaced several times within half an hour; the log says why",
        ),
    ]


def _refused(code: str) -> str:
    return f'sum by (job, instance) (rate(mlspec_errors_total{{code="{code}"}}[5m]))'


def _selector(labels: Mapping[str, str]) -> str:
    """Names of specs are lower-case labels of letters, digits and hyphens: they need no escape."""
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def _number(value: float) -> str:
    return f"{value:g}"
