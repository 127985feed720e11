"""How long batches of a bundle's model take, and what memory they need: measured in a process of its own.

    python -m mlspec_runtime.predict.calibrate 1,2,4,8 < request.json

in the bundle's folder. The request is repeated to so many rows. Prints a line of JSON for each number of rows,
`{"rows": 8, "seconds": 0.004, "memory_bytes": 1234}`, and stops with `{"rows": 16, "problem": "..."}` at the first that
fails or takes too long.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from mlspec_runtime.models import locate
from mlspec_runtime.plan import RuntimePlan, load_plan
from mlspec_runtime.predict.intake import Intake
from mlspec_runtime.predict.messages import request_type
from mlspec_runtime.predict.model import ManyAtOnce, ModelContext, TensorModel
from mlspec_runtime.predict.settings import Settings, read
from mlspec_runtime.predict.signature import Array

LEAST_S, LEAST_CALLS, MOST_CALLS = 0.3, 5, 200
"""Of each number of rows: as many calls as take this time, between these bounds."""
WARM_UP_CALLS = 2
LONGEST_CALL_S = 30.0


def main(arguments: Sequence[str]) -> None:
    """Measure the bundle in the working folder. Raises whatever goes wrong before the first call."""
    rows = [int(count) for count in arguments[0].split(",")]
    plan = load_plan(Path.cwd())
    for name, value in plan.environment.set.items():
        os.environ.setdefault(name, value)
    for line in _measured(plan, json.load(sys.stdin), rows):
        print(json.dumps(line), flush=True)


def _measured(plan: RuntimePlan, body: Mapping[str, Any], rows: Sequence[int]) -> Iterator[dict[str, Any]]:
    settings = read(plan.runner.settings)
    models = locate(plan, Path.cwd(), os.environ, lambda tag: None)
    intake = Intake(settings)
    intake.load(Path.cwd(), models)
    model = _opened(plan, settings, models)
    request = request_type(settings.requests.inputs).model_validate(body)
    inputs = intake.arrays_now(request, {})
    for count in rows:
        try:
            seconds = _median_s(_call(model, inputs, count))
        # Such as no memory for so many rows: what was measured of fewer holds.
        except BaseException as problem:  # noqa: BLE001
            yield {"rows": count, "problem": f"{type(problem).__name__}: {problem}"[:200]}
            return
        yield {"rows": count, "seconds": round(seconds, 9), **_memory(model)}
        if seconds > LONGEST_CALL_S:
            yield {"rows": count, "problem": f"a call took {seconds:.0f} s"}
            return


def _opened(plan: RuntimePlan, settings: Settings, models: Mapping[str, Path]) -> TensorModel:
    context = ModelContext(settings.model, settings.inputs, settings.outputs, Path.cwd())
    model: TensorModel = import_module(plan.runner.module).create_model(context)
    model.load(models)
    return model


def _call(model: TensorModel, inputs: Mapping[str, Array], count: int) -> Callable[[], object]:
    """A call of so many rows; of so many requests of one row each where the model takes requests as they are."""
    if isinstance(model, ManyAtOnce):
        many_at_once = model.predict_batch
        one = {name: _rows(array, 1) for name, array in inputs.items()}
        return lambda: many_at_once([one] * count)
    many = {name: _rows(array, count) for name, array in inputs.items()}
    return lambda: model.predict(many)


def _rows(array: Array, count: int) -> Array:
    """The array's rows, again and again."""
    return np.ascontiguousarray(array[np.arange(count) % len(array)]) if array.ndim else array


def _median_s(call: Callable[[], object]) -> float:
    for _ in range(WARM_UP_CALLS):
        began_at = time.perf_counter()
        call()
        if time.perf_counter() - began_at > LONGEST_CALL_S:
            return time.perf_counter() - began_at
    took: list[float] = []
    while len(took) < LEAST_CALLS or (sum(took) < LEAST_S and len(took) < MOST_CALLS):
        began_at = time.perf_counter()
        call()
        took.append(time.perf_counter() - began_at)
    return statistics.median(took)


def _memory(model: TensorModel) -> dict[str, int]:
    """The most that was held by now: what the framework tells, else by the process."""
    told = model.memory_bytes()
    return {"memory_bytes": told.get("peak") or told.get("active") or _process_bytes()}


def _process_bytes() -> int:
    """The most that this process has held (macOS counts in bytes, Linux in kilobytes)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main(sys.argv[1:])
