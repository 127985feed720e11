"""The pages: what this service is and how to ask it, and the frame for its documents. Plain HTML, every value is
escaped, nothing is loaded from elsewhere.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from mlspec_runtime.plan import RuntimePlan

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}
h1{margin-bottom:0}p.sub{color:#666;margin-top:0}td{padding:.15rem 1rem .15rem 0;vertical-align:top}
pre{background:#f4f4f4;padding:.8rem;white-space:pre-wrap;overflow-wrap:anywhere}h3{font-size:1rem;margin-bottom:0}
body{color:#222}@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#262626}a{color:#8bf}}"""
_FIXED = (
    ("GET", "/docs", "all of it, to read and to try out"),
    ("GET", "/docs.json", "the same as an OpenAPI document"),
)
_MOST_EXAMPLES = 3


def index_page(plan: RuntimePlan, document: Mapping[str, Any], address: str) -> str:
    """HTML, with what the OpenAPI document has, and calls to this address."""
    service = plan.service
    # What is asked for answers first, then what tells of the service.
    rows = sorted((*_rows(document), *_FIXED), key=lambda row: row[0] != "POST")
    where = f"project {service.project}, target {service.target}, runner {plan.runner.name}"
    key = plan.auth is not None
    body = (
        f'<h1>{escape(service.name)}</h1><p class="sub">{escape(where)}</p><p>{escape(service.description)}</p>'
        f"<table>{''.join(_row(*row) for row in rows)}</table><h2>Ask it</h2>{_key_told() if key else ''}"
        f"{''.join(_calls(document, address, key=key))}"
    )
    return _page(service.name, f"<style>{_STYLE}</style>", body)


def docs_page(plan: RuntimePlan) -> str:
    """HTML that Swagger UI fills; its files lie below /docs."""
    head = '<link rel="icon" href="data:,"><link rel="stylesheet" href="docs/swagger-ui.css">'
    scripts = '<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script>'
    return _page(plan.service.name, head, f'<div id="swagger-ui"></div>{scripts}')


def _page(title: str, head: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width">{head}</head><body>{body}</body></html>\n'
    )


def _rows(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation.get("summary", "")


def _row(method: str, path: str, told: str) -> str:
    linked = method == "GET" and "{" not in path
    shown = f'<a href="{escape(path[1:])}">{escape(path)}</a>' if linked else escape(path)
    return f"<tr><td>{method}</td><td><code>{shown}</code></td><td>{escape(told)}</td></tr>"


def _key_told() -> str:
    return "<p>Each call needs one of the service's API keys; here it is in the shell's variable <code>KEY</code>.</p>"


def _calls(document: Mapping[str, Any], address: str, *, key: bool) -> Iterator[str]:
    for path, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        examples = content.get("application/json", {}).get("examples", {})
        for name, example in list(examples.items())[:_MOST_EXAMPLES]:
            call = escape(_call(address + path, example["value"], key=key))
            yield f"<h3>{escape(path)}: {escape(name)}</h3><pre>{call}</pre>"


def _call(url: str, body: Any, *, key: bool) -> str:
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    # -N: a stream is shown as it comes.
    shown = ' -H "Authorization: Bearer $KEY"' if key else ""
    return f"curl -sN {shlex.quote(url)}{shown} -H 'Content-Type: application/json' -d {data}"
