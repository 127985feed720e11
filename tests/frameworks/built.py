"""Bundles that were built for the tests, served in this process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mlspec import pipeline
from mlspec.diagnostics import Report
from mlspec.reporting import render
from mlspec.workspace import Surroundings
from runtime.services import Service, running


def build(project: Path, spec: str, *, target: str | None = None, **environment: str) -> tuple[Path | None, str]:
    """The bundle of the last target of a spec in the project, None after a fault; and what was reported."""
    path, report = project / "spec.yaml", Report()
    path.write_text(spec, encoding="utf-8")
    (project / "mlspec.yaml").write_text("apiVersion: mlspec/v1\nkind: Project\n", encoding="utf-8")
    here = Surroundings(environment, project, project / "home")
    places = list(pipeline.build([path], here, None, report, target))
    text = render(report, "text", read=lambda file: (project / file).read_text(encoding="utf-8"))
    return (places[-1] if places else None), text


def plan_of(bundle: Path) -> dict[str, Any]:
    """Its plan.json."""
    found: dict[str, Any] = json.loads((bundle / "plan.json").read_text(encoding="utf-8"))
    return found


@asynccontextmanager
async def serving(bundle: Path, *, wait: bool = True, **changes: Any) -> AsyncIterator[Service]:
    """Its service. The runner is imported from where it is developed: only a bundle has it in `mlspec_runtime`."""
    block = {key: plan_of(bundle)["runtime"][key] for key in ("runner", "task", "endpoints", "limits", "models")}
    module = block["runner"]["module"].replace("mlspec_runtime.runners.", "mlspec.runners.")
    block |= {"runner": {**block["runner"], "module": module}, **changes}
    async with running(bundle, wait=wait, **block) as service:
        yield service
