"""The page at /: what this service is and how to ask it. Plain HTML, nothing is loaded from elsewhere."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from mlspec_runtime.plan import RuntimePlan

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}
h1{margin-bottom:0}p.sub{color:#666;margin-top:0}td{padding:.15rem 1rem .15rem 0;vertical-align:top}
pre{background:#f4f4f4;padding:.8rem;overflow:auto}
body{color:#222}@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#262626}a{color:#8bf}}"""
_FIXED = (
    ("GET", "/health", "does the model compute?"),
    ("GET", "/metrics", "Prometheus metrics"),
    ("GET", "/docs.json", "OpenAPI document"),
)
_ENDPOINTS = {
    "predict": ("POST", "/predict", "the whole answer"),
    "stream": ("POST", "/predict/stream", "the answer as it is made (server-sent events)"),
}


def index_page(plan: RuntimePlan, examples: Mapping[str, Any], host: str) -> str:
    """HTML, with calls to this host; every value is escaped."""
    service = plan.service
    rows = [_ENDPOINTS[name] for name in plan.endpoints if name in _ENDPOINTS]
    table = "".join(_row(*row) for row in (*rows, *_FIXED))
    calls = (
        "".join(f"<pre>{escape(_call(host + rows[0][1], body))}</pre>" for body in examples.values()) if rows else ""
    )
    title = escape(service.name)
    where = escape(f"project {service.project}, target {service.target}, runner {plan.runner.name}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f'<h1>{title}</h1><p class="sub">{where}</p><p>{escape(service.description)}</p>'
        f"<table>{table}</table><h2>Ask it</h2>{calls}</body></html>\n"
    )


def _row(method: str, path: str, told: str) -> str:
    shown = f'<a href="{path}">{path}</a>' if method == "GET" else path
    return f"<tr><td>{method}</td><td><code>{shown}</code></td><td>{escape(told)}</td></tr>"


def _call(url: str, body: Any) -> str:
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl -s {shlex.quote(url)} -H 'Content-Type: application/json' -d {data}"
