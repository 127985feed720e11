"""What the service answers: a module for each group of endpoints, with `PATHS` (each path's operation) and `add`."""

from __future__ import annotations

from dataclasses import dataclass

from mlspec_runtime.metrics import Metrics
from mlspec_runtime.plan import RuntimePlan
from mlspec_runtime.protocol import Runner
from mlspec_runtime.served_model import ServedModel


@dataclass(frozen=True)
class Serving:
    """What endpoints are made of. `runner` is for types and examples; to ask it, take `model.admit()`."""

    plan: RuntimePlan
    runner: Runner
    model: ServedModel
    metrics: Metrics
