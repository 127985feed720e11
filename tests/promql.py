"""What Prometheus would make of an expression, by a port of its own parser."""

from __future__ import annotations

from typing import Any

import promql_parser

GRAFANA = {"$__rate_interval": "5m"}


def parse(expression: str) -> Any:
    """Raises ValueError if it is none."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return promql_parser.parse(expression)


def metrics(expression: str) -> set[str]:
    """The names of the series that it asks for."""
    found: set[str] = set()

    def see(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.add(node.name)

    promql_parser.walk(parse(expression), see)
    return found


def expressions(dashboard: dict[str, Any], alerts: dict[str, Any]) -> dict[str, str]:
    """All that a bundle's documents ask for, by where it stands."""
    targets = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }
    rules = {rule["alert"]: rule["expr"] for group in alerts["groups"] for rule in group["rules"]}
    return {**targets, **rules}
