"""/health: does the model compute?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI

from mlspec_runtime.documents import error_documents
from mlspec_runtime.endpoints import Serving
from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Capacity

PATHS = {"/health": "health"}


def add(app: FastAPI, serving: Serving) -> None:
    """The endpoint, which every service has."""
    model = serving.model

    @app.get("/health", summary="Does the model compute?", responses=error_documents(503))
    async def health() -> dict[str, Any]:
        """Makes the model compute something small, unless it has answered within the last seconds."""
        health = await model.health()
        stats = model.runner().stats()
        return {
            "status": "ok",
            "service": model.plan.service.name,
            "project": model.plan.service.project,
            "target": model.plan.service.target,
            "checked": health.checked,
            "age_s": health.age_s,
            "waiting": stats.waiting,
            "running": stats.running,
            "capacity": asdict(stats.capacity or _as_planned(model.plan)),
            "heat": model.heat.told(),
            "memory": model.heat.memory.told(),
            "models": model.content,
        }


def _as_planned(plan: RuntimePlan) -> Capacity:
    return Capacity(plan.limits.concurrency, plan.limits.concurrency, "as planned")
