"""The dashboard and the rules of a bundle ask for what a real service of it tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from e2e.operating import BENTOML, operated, tiny_bundle, until
from promql import expressions, metrics

pytestmark = pytest.mark.e2e


def keeps_prefixes(runtime: dict[str, Any]) -> None:
    runtime["runner"]["settings"]["prompt_cache_bytes"] = 8 << 20


def names(text: str) -> set[str]:
    """Of all series in an answer of /metrics."""
    return {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_every_metric_is_in_a_real_answer(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, keeps_prefixes)
    dashboard = json.loads((bundle / "monitoring/dashboard.json").read_text())
    alerts = YAML(typ="safe").load((bundle / "monitoring/alerts.yaml").read_text())
    asked = {name for expression in expressions(dashboard, alerts).values() for name in metrics(expression)}
    with operated(BENTOML, bundle, tmp_path / "log") as service:
        work(service.client)
        # What the runner tells of itself is looked at every five seconds.
        until(lambda: service.series('mlspec_memory_bytes{kind="limit"}') is not None, 30, service.log)
        until(lambda: asked <= names(service.client.get("/metrics").text), 30, service.log)
        text = service.client.get("/metrics").text
        assert service.series('mlspec_tokens_total{kind="reused"}')
        assert service.series("mlspec_decode_rows_total")
        assert service.series("mlspec_process_starts_total") == 1
        assert service.series("mlspec_ready") == 1
        assert 'mlspec_model_loaded{project="example",runner="lora",service="support-lora",target="linux"' in text


def work(client: httpx.Client) -> None:
    """Something of everything: a prompt twice, the second time with a known beginning, a stream, and an error."""
    body = {"prompt": "Where is my order? " * 3, "temperature": 1.0, "max_tokens": 24}
    for path in ("/predict", "/predict/stream", "/predict"):
        assert client.post(path, json=body).status_code == 200
    assert client.post("/predict", json={}).status_code == 422
