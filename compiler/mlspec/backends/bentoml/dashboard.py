"""The Grafana dashboard (schema 39: Grafana 10.4 and later) of a service, as data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.model.plan import Plan

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COMPUTING = 'endpoint!~"health|docs|index|model|models|other"'
"""Requests that ask the model; probes and pages would hide failures among them."""
HERE = 'instance=~"$instance"'
COLUMNS = 24
WIDTH, HEIGHT = 8, 7
STAT_WIDTH, STAT_HEIGHT = 4, 4


@dataclass(frozen=True)
class Panel:
    """A panel: its title, the unit as Grafana calls it, what is asked by legend, and what it tells."""

    title: str
    unit: str
    queries: Mapping[str, str]
    description: str = ""
    kind: str = "timeseries"
    stacked: bool = False


def dashboard(plan: Plan) -> dict[str, Any]:
    """Importable as it is: Grafana asks for the data source alone. It shows any service of mlspec's, this one first."""
    metadata, target = plan.spec.metadata, plan.target.name
    key = "/".join((metadata.project, metadata.name, target))
    return {
        "uid": "mlspec-" + hashlib.sha256(key.encode()).hexdigest()[:16],
        "title": f"{metadata.name} ({metadata.project}, {target})",
        "tags": ["mlspec"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables({"project": metadata.project, "service": metadata.name, "target": target})},
        "annotations": {"list": []},
        "panels": _placed(),
    }


def _variables(chosen: Mapping[str, str]) -> list[dict[str, Any]]:
    """The data source, then each name narrowed by those before it, and at last the instances."""
    variables: list[dict[str, Any]] = [{"name": "datasource", "label": "Data source", "type": "datasource"}]
    variables[0]["query"] = "prometheus"
    known: list[str] = []
    for name, value in chosen.items():
        current = {"text": value, "value": value, "selected": True}
        variables.append({**_variable(name, known), "current": current})
        known.append(f'{name}="${name}"')
    everything = {"text": "All", "value": "$__all", "selected": True}
    variables.append({**_variable("instance", known), "multi": True, "includeAll": True, "current": everything})
    return variables


def _variable(name: str, known: Iterable[str]) -> dict[str, Any]:
    query = f"label_values(mlspec_model_loaded{{{','.join(known)}}}, {name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
    }


def _series(metric: str, kind: str = "") -> str:
    """The metric of the instances that are chosen; with a `kind` only what has it as its label."""
    return f'{metric}{{{HERE},kind="{kind}"}}' if kind else f"{metric}{{{HERE}}}"


def _rate(metric: str, *, by: str = "", kind: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({_series(metric, kind)}[$__rate_interval]))"


def _quantiles(metric: str) -> dict[str, str]:
    buckets = _rate(f"{metric}_bucket", by="le")
    return {f"p{share}": f"histogram_quantile(0.{share}, {buckets})" for share in (50, 95)}


def _share(part: str, whole: str) -> str:
    return f"{part} / {whole}"


def _failing() -> str:
    """The requests answered with 5xx over all, both of those that ask the model."""
    rates = (
        f"sum (rate(mlspec_requests_total{{{HERE},{selected}}}[$__rate_interval]))"
        for selected in (f'status=~"5..",{COMPUTING}', COMPUTING)
    )
    return _share(*rates)


STATS = (
    Panel("Ready", "bool_yes_no", {"{{instance}}": _series("mlspec_ready")}),
    Panel("Waiting", "short", {"{{instance}}": _series("mlspec_queue_depth")}),
    Panel("Computed", "short", {"{{instance}}": _series("mlspec_in_flight")}),
    Panel(
        "Thermal level", "short", {"{{instance}}": _series("mlspec_thermal_level")}, "0 nominal to 4; -1: not known."
    ),
    Panel(
        "Memory of limit",
        "percentunit",
        {
            "{{instance}}": _share(
                _series("mlspec_memory_bytes", "active"), "ignoring (kind) " + _series("mlspec_memory_bytes", "limit")
            )
        },
    ),
    Panel(
        "Processes begun", "short", {"{{instance}}": _series("mlspec_process_starts_total")}, "More than 1: replaced."
    ),
)

GROUPS: Mapping[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel("Requests by endpoint", "reqps", {"{{endpoint}}": _rate("mlspec_requests_total", by="endpoint")}),
        Panel("Requests by status", "reqps", {"{{status}}": _rate("mlspec_requests_total", by="status")}, stacked=True),
        Panel("Errors by code", "reqps", {"{{code}}": _rate("mlspec_errors_total", by="code")}, stacked=True),
        Panel("Share of requests that fail", "percentunit", {"5xx": _failing()}, "Of those that ask the model."),
        Panel("Time to the whole answer", "s", _quantiles("mlspec_request_seconds")),
        Panel("Time to the first token", "s", _quantiles("mlspec_time_to_first_token_seconds")),
        Panel("Time per output token", "s", _quantiles("mlspec_time_per_output_token_seconds")),
    ),
    "Load": (
        Panel(
            "Queue and batch",
            "short",
            {
                "waiting": _series("mlspec_queue_depth"),
                "computed": _series("mlspec_in_flight"),
                "computed at most": _series("mlspec_admitted_concurrency"),
            },
            "At most: what heat and this computer's memory allow.",
        ),
        Panel("Time in the queue", "s", _quantiles("mlspec_queue_seconds")),
        Panel("Tokens", "short", {"{{kind}} a second": _rate("mlspec_tokens_total", by="kind")}),
        Panel(
            "Rows per step",
            "short",
            {"mean": _share(_rate("mlspec_decode_rows_total"), _rate("mlspec_decode_steps_total"))},
            "Of steps that only generated.",
        ),
        Panel("Steps by rows", "short", {"{{rows}} rows": _rate("mlspec_decode_steps_total", by="rows")}, stacked=True),
        Panel(
            "Time per step",
            "s",
            {"mean": _share(_rate("mlspec_decode_seconds_total"), _rate("mlspec_decode_steps_total"))},
        ),
    ),
    "Batches of tensors": (
        Panel(
            "A call's mean",
            "short",
            {
                "rows": _share(_rate("mlspec_batch_rows_total"), _rate("mlspec_batches_total")),
                "requests": _share(_rate("mlspec_batch_requests_total"), _rate("mlspec_batches_total")),
            },
            "Of calls of the model that went well.",
        ),
        Panel(
            "Calls by rows, at most", "short", {"{{rows}} rows": _rate("mlspec_batches_total", by="rows")}, stacked=True
        ),
        Panel(
            "Time per call",
            "s",
            {"mean": _share(_rate("mlspec_batch_seconds_total"), _rate("mlspec_batches_total"))},
        ),
    ),
    "Caches": (
        Panel("Prompts with a known beginning", "reqps", {"hits": _rate("mlspec_prompt_cache_hits_total")}),
        Panel(
            "Share of prompts' tokens not computed again",
            "percentunit",
            {
                "reused": _share(
                    _rate("mlspec_tokens_total", kind="reused"), _rate("mlspec_tokens_total", kind="prompt")
                )
            },
        ),
        Panel("Response cache", "reqps", {"{{result}}": _rate("mlspec_response_cache_requests_total", by="result")}),
        Panel("Answers kept", "short", {"{{instance}}": _series("mlspec_response_cache_entries")}),
        Panel("Size of the answers kept", "bytes", {"{{instance}}": _series("mlspec_response_cache_bytes")}),
    ),
    "Machine": (
        Panel("Memory", "bytes", {"{{kind}}": _series("mlspec_memory_bytes")}),
        Panel(
            "Heat",
            "short",
            {"thermal level": _series("mlspec_thermal_level"), "low-power mode": _series("mlspec_low_power")},
            "Level: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping; -1: not known.",
        ),
        Panel("Adapters and the like", "ops", {"{{event}}": _rate("mlspec_runner_events_total", by="event")}),
        Panel("Faults that end a process", "short", {"{{code}}": _series("mlspec_faults_total")}),
    ),
}


def _placed() -> list[dict[str, Any]]:
    """All panels, each below or beside the one before it."""
    panels = [_panel(panel, "stat", x * STAT_WIDTH, 0, STAT_WIDTH, STAT_HEIGHT) for x, panel in enumerate(STATS)]
    y = STAT_HEIGHT
    for title, group in GROUPS.items():
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, 24, 1)})
        y += 1
        in_row = COLUMNS // WIDTH
        for number, panel in enumerate(group):
            x = number % in_row * WIDTH
            panels.append(_panel(panel, panel.kind, x, y + number // in_row * HEIGHT, WIDTH, HEIGHT))
        y += -(-len(group) // in_row) * HEIGHT
    return [{"id": number, **panel} for number, panel in enumerate(panels, 1)]


def _panel(panel: Panel, kind: str, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": None if kind == "stat" or panel.title == "Heat" else 0}
    if panel.stacked:
        defaults["custom"] = {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 20}
    return {
        "type": kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": _place(x, y, width, height),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {},
        "targets": [_target(number, *query) for number, query in enumerate(panel.queries.items())],
    }


def _target(number: int, legend: str, expression: str) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + number),
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": expression,
        "legendFormat": legend,
        "range": True,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}
