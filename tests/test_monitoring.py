"""The dashboard and the alert rules of a bundle: they parse, and they ask for what the runtime tells."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from mlspec.backends.bentoml.dashboard import COMPUTING
from mlspec_runtime.app import ENDPOINTS, OPERATIONS
from mlspec_runtime.gate import OTHER
from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import parse_plan
from projects import built, example, with_spec
from promql import expressions, metrics, parse

OF_SPEC = ("specs/lora.yaml", "specs/chat.yaml")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    project = example(tmp_path_factory.mktemp("project") / "project")
    return {path: content for spec in OF_SPEC for path, content in built(project, project / spec).items()}


def documents(files: dict[str, bytes]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """The folder, the dashboard and the rules of each bundle."""
    folders = sorted(path.removesuffix("/plan.json") for path in files if path.endswith("/plan.json"))
    found = [
        (
            folder,
            json.loads(files[f"{folder}/monitoring/dashboard.json"]),
            YAML(typ="safe").load(files[f"{folder}/monitoring/alerts.yaml"].decode()),
        )
        for folder in folders
    ]
    assert len(found) >= 3
    return found


def told(files: dict[str, bytes], folder: str) -> set[str]:
    """The names of all series that the runtime of this bundle knows."""
    registry = CollectorRegistry()
    Metrics(parse_plan(json.loads(files[f"{folder}/plan.json"])), registry)
    names = set()
    for family in registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {family.name + end for end in ends}
    return names


def test_every_expression_parses(files: dict[str, bytes]) -> None:
    for _, dashboard, alerts in documents(files):
        found = expressions(dashboard, alerts)
        assert len(found) > 30
        for where, expression in found.items():
            assert parse(expression), where


def test_an_expression_that_is_none_is_found() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        parse("sum by (a (rate(x[5m]))")


def test_every_metric_is_one_of_the_runtimes(files: dict[str, bytes]) -> None:
    for folder, dashboard, alerts in documents(files):
        known = told(files, folder)
        for where, expression in expressions(dashboard, alerts).items():
            asked = metrics(expression)
            assert asked, where
            assert asked <= known, where


def test_every_metric_of_the_runtime_but_the_dashboards_own_join_is_shown(files: dict[str, bytes]) -> None:
    folder, dashboard, alerts = documents(files)[0]
    shown = {name for expression in expressions(dashboard, alerts).values() for name in metrics(expression)}
    families = {name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in shown}
    all_families = {
        name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum") for name in told(files, folder)
    }
    assert all_families - families == set()


def test_the_variables_lead_to_the_instances_of_this_service(files: dict[str, bytes]) -> None:
    for folder, dashboard, _ in documents(files):
        source, *names, instance = dashboard["templating"]["list"]
        assert (source["type"], source["query"]) == ("datasource", "prometheus")
        assert [name["name"] for name in names] == ["project", "service", "target"]
        assert "/".join(name["current"]["value"] for name in names) == folder
        assert instance["query"]["query"] == (
            'label_values(mlspec_model_loaded{project="$project",service="$service",target="$target"}, instance)'
        )
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                assert target["datasource"]["uid"] == "${datasource}"
                assert 'instance=~"$instance"' in target["expr"]


def test_panels_lie_side_by_side(files: dict[str, bytes]) -> None:
    dashboard = documents(files)[0][1]
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_each_bundle_has_a_dashboard_and_rules_of_its_own(files: dict[str, bytes]) -> None:
    found = documents(files)
    assert len({dashboard["uid"] for _, dashboard, _ in found}) == len(found)
    assert all(len(dashboard["uid"]) <= 40 for _, dashboard, _ in found)
    assert len({group["name"] for *_, alerts in found for group in alerts["groups"]}) == len(found)


def test_rules_have_what_prometheus_wants(files: dict[str, bytes]) -> None:
    for folder, _, alerts in documents(files):
        rules = [rule for group in alerts["groups"] for rule in group["rules"]]
        assert len({rule["alert"] for rule in rules}) == len(rules) == 8
        for rule in rules:
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
            assert promql_parser.parse_duration(rule["for"]).total_seconds() > 0
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert f"{rule['labels']['project']}/{rule['labels']['service']}/{rule['labels']['target']}" == folder
            # Another service that the same Prometheus knows is none of this rule's business.
            assert f'service="{rule["labels"]["service"]}"' in rule["expr"]


def test_shares_of_errors_have_the_same_requests_above_and_below(files: dict[str, bytes]) -> None:
    """What asks the model: requests to probes and pages would hide failures."""
    for _, dashboard, alerts in documents(files):
        found = {where: text for where, text in expressions(dashboard, alerts).items() if "5.." in text}
        assert len(found) == 2
        for where, text in found.items():
            assert text.count("rate(mlspec_requests_total{") == text.count(COMPUTING) == 2, where


def test_every_endpoint_of_the_runtime_asks_the_model_or_is_left_out() -> None:
    left_out = set(COMPUTING.removeprefix('endpoint!~"').rstrip('"').split("|"))
    operations = {*OPERATIONS.values(), OTHER}
    assert left_out < operations
    assert operations - left_out == set(ENDPOINTS)


def test_a_service_without_a_queue_counts_refusals(tmp_path: Path) -> None:
    project = example(tmp_path / "project")
    text = (project / "specs/chat.yaml").read_text() + "service: {limits: {queue: 0}}\n"
    found = documents_of(built(project, with_spec(project, text)))
    rule = next(rule for rule in found["groups"][0]["rules"] if rule["alert"] == "MlspecQueueFull")
    assert metrics(rule["expr"]) == {"mlspec_errors_total", "mlspec_model_loaded"}


def documents_of(files: dict[str, bytes]) -> Any:
    path = next(path for path in files if path.endswith("monitoring/alerts.yaml"))
    return YAML(typ="safe").load(files[path].decode())


def test_neither_the_image_nor_the_bento_holds_them(files: dict[str, bytes]) -> None:
    folder = next(path.removesuffix("/Dockerfile") for path in files if path.endswith("/Dockerfile"))
    assert b"monitoring" not in files[f"{folder}/.dockerignore"]
    bentofile = YAML(typ="safe").load(files[f"{folder}/bentofile.yaml"].decode())
    assert not [path for path in bentofile["include"] if "monitoring" in path]
    assert "monitoring/dashboard.json" in json.loads(files[f"{folder}/plan.json"])["files"]
