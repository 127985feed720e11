"""The bundle's model, loaded for rows and not for a service."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlspec_runtime import logs
from mlspec_runtime.batch.bodies import BodyRows, fields_of
from mlspec_runtime.batch.computers import Computer
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.model_log import Few
from mlspec_runtime.batch.tensors import TensorRows, bind, rows_together, stacks
from mlspec_runtime.errors import ServiceError
from mlspec_runtime.models import locate
from mlspec_runtime.plan import PlanError, RuntimePlan, load_plan
from mlspec_runtime.predict.messages import TensorRequest
from mlspec_runtime.predict.settings import read
from mlspec_runtime.protocol import Runner, RunnerContext

LOG = logging.getLogger("mlspec.batch")


def opened_plan(bundle: Path) -> RuntimePlan:
    """The bundle's plan; its variables are set, those that are must be there. Raises BatchError."""
    try:
        plan = load_plan(bundle)
    except PlanError as problem:
        raise BatchError("engine", str(problem)) from problem
    for name, value in plan.environment.set.items():
        os.environ.setdefault(name, value)
    # Nobody has to show a key here.
    key = plan.auth.api_key_env if plan.auth else None
    if missing := [name for name in plan.environment.required if name != key and not os.environ.get(name)]:
        raise BatchError("engine", f"not set in the environment: {', '.join(missing)}", "set it, and start again")
    return plan


def write_logs(plan: RuntimePlan) -> None:
    """The process's log on stderr, in the plan's format; of very many errors the first ones."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Few())
    logging.getLogger().addHandler(handler)
    logging.getLogger("mlspec").setLevel(logging.INFO)
    logs.configure(plan.logging, plan.service)


def computer_of(
    plan: RuntimePlan, bundle: Path, names: Sequence[str] | None, given: Mapping[str, str], batch_rows: int | None
) -> tuple[Runner, Computer]:
    """The runner, not loaded yet, and what asks it. `names` are the input's columns, None where nothing tells.

    Raises:
        BatchError: the plan is for another runtime, or columns don't fit the model.
    """
    try:
        module = import_module(plan.runner.module)
        runner = _created(module, plan, plan.runner.settings, bundle)
        if not issubclass(runner.request_type, TensorRequest):
            return runner, BodyRows(runner, fields_of(runner, names, given), plan.limits)
        settings = read(plan.runner.settings)
        asked = settings.requests
        stacked = stacks((*asked.inputs, *asked.outputs))
        rows = batch_rows or rows_together(asked.inputs, settings.batching.max_rows)
        bound = bind(asked.inputs, names, given, stacked=stacked)
        # The plan's batches are of requests that come by themselves; here there is never a lack of rows.
        batching = {"max_rows": rows if stacked else 1, "max_wait_s": 0.0}
        runner = _created(module, plan, {**plan.runner.settings, "batching": batching}, bundle)
        return runner, TensorRows(runner, bound, asked.outputs, rows)
    except (ImportError, ValidationError) as problem:
        raise BatchError(
            "engine", f"the bundle's runner can't be made: {problem}", "build the bundle again"
        ) from problem


def _created(module: Any, plan: RuntimePlan, settings: Mapping[str, Any], bundle: Path) -> Runner:
    context = RunnerContext(plan.task, settings, plan.limits, bundle, lambda stats: None)
    runner: Runner = module.create(context)
    return runner


def load(runner: Runner, plan: RuntimePlan, bundle: Path) -> None:
    """Bring the model into memory. Raises BatchError."""
    try:
        runner.load(locate(plan, bundle, os.environ, _in_model_store))
    except ServiceError as problem:
        raise BatchError("model", f"the model can't be loaded: {problem.message}") from problem
    # Whatever a user's code raises: the log has where.
    except Exception as problem:
        LOG.exception("loading the model failed")
        raise BatchError("model", f"the model can't be loaded: {type(problem).__name__}: {problem}") from problem


def _in_model_store(tag: str) -> Path | None:
    """BentoML's, imported only where a bundle has no link to its model."""
    from mlspec_runtime.bento import in_model_store

    return in_model_store(tag)
