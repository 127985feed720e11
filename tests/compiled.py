"""Specs compiled and served in the test's own process: what `mlspec build` and `mlspec serve` do, without a server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mlspec.runners
import mlspec_runtime.runners
from mlspec import pipeline
from mlspec.diagnostics import Report
from projects import surroundings
from runtime.services import Service, running


def compiled(project: Path, spec: Path) -> Path:
    """The bundle of a spec's only target. What is wrong with the spec fails the test."""
    report = Report()
    bundles = list(pipeline.build([spec], surroundings(project), None, report))
    told = [(found.code, found.message) for found in report]
    assert not told, told
    (bundle,) = bundles
    return bundle


def runtime_of(bundle: Path) -> dict[str, Any]:
    """The block of a bundle's plan that its runtime reads."""
    block: dict[str, Any] = json.loads((bundle / "plan.json").read_text(encoding="utf-8"))["runtime"]
    return block


@asynccontextmanager
async def serving(bundle: Path) -> AsyncIterator[Service]:
    """The bundle's service. Its runners are those of the checkout, of which the bundle has copies."""
    runners = str(Path(mlspec.runners.__file__).parent)
    if runners not in mlspec_runtime.runners.__path__:
        mlspec_runtime.runners.__path__.append(runners)
    # There a parameter of its own, of another meaning.
    block = {key: value for key, value in runtime_of(bundle).items() if key != "tracing"}
    async with running(bundle, **block) as service:
        yield service


async def outputs(service: Service, **inputs: Any) -> Any:
    """What the service answers to these inputs, which it has to take."""
    response = await service.client.post("/predict", json={"inputs": inputs})
    assert response.status_code == 200, response.text
    return response.json()["outputs"]
