"""`mlspec bench --calibrate`: measure batches of a spec's model on this computer, for the plan to use."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlspec.bench.calibrating import calibration_text, points
from mlspec.bench.subject import here
from mlspec.bench.tensors import generated
from mlspec.commands import surroundings, tell
from mlspec.commands.bench_files import write
from mlspec.commands.progress import Progress
from mlspec.commands.serve import built_for_host
from mlspec.diagnostics import Report
from mlspec.errors import CommandError
from mlspec.exit_codes import FINDINGS, OK
from mlspec.model.calibration import Calibration, place_of
from mlspec.model.plan import Plan
from mlspec.passes.calibrations import calibration_path, calibrations, model_digest
from mlspec.pipeline import Checked, Pipeline
from mlspec.reporting.plan.values import memory, rate
from mlspec.tensors.batching import KEY

_KIND = b'"kind": "Calibration"'


def run(options: Namespace) -> int:
    """Measure and write the file beside the spec. Raises CommandError."""
    _check(options)
    wanted_format = options.output_format
    found = built_for_host(options)
    if isinstance(found, int):
        return found
    checked, bundle = found
    plan = _plan(options, checked, bundle.name)
    if plan is None:
        return FINDINGS
    measured = _measured(checked, plan, bundle)
    path = calibration_path(checked.document.path)
    text = calibration_text(checked.document.path.name, [*_others(checked, plan), measured])
    write(path, text, lambda content: _KIND in content)
    decided = _plan(options, checked, bundle.name)
    if decided is None:
        return FINDINGS
    _show(measured, surroundings(options).shown(path), decided, wanted_format)
    return OK


def _check(options: Namespace) -> None:
    if options.url is not None:
        message = "--calibrate measures the model on this computer, and no service elsewhere"
        raise CommandError("usage", message, "leave --url out")


def _plan(options: Namespace, checked: Checked, target: str) -> Plan | None:
    report = Report()
    plan = next(Pipeline(surroundings(options)).plans(checked, report, target), None)
    if plan is None:
        tell(report, options, to_stdout=False)
    return plan


def _measured(checked: Checked, plan: Plan, bundle: Path) -> Calibration:
    body, progress = _body(checked, plan), Progress([])
    try:
        found = points(bundle, body, progress.say)
    finally:
        progress.clear()
    digest = model_digest(checked, plan.resolved.facts)
    return Calibration(*place_of(plan.target), computer=here(), digest=digest, points=found)


def _body(checked: Checked, plan: Plan) -> Mapping[str, Any]:
    """The request that is repeated: the first of the spec's tests that is to be answered, else numbers made up."""
    settings: Mapping[str, Any] = plan.runtime["runner"]["settings"]
    if "requests" not in settings:
        message = "only models of tensors are calibrated; this one generates text"
        raise CommandError("usage", message, "mlspec bench without --calibrate measures it")
    fine = [test.predict for test in checked.spec.tests if test.expect.status == 200]
    return fine[0] if fine else generated(settings["requests"]["inputs"], 1, 0)[0]


def _others(checked: Checked, plan: Plan) -> Sequence[Calibration]:
    """What was measured before of the spec's other targets and still holds; a file of no use is written anew."""
    found = calibrations(checked, plan.resolved.facts, Report())
    names = [target.name for target in checked.spec.targets]
    return [one for one in found if one.target != plan.target.name and one.target in names]


def _show(measured: Calibration, shown: str, plan: Plan, wanted_format: str) -> None:
    decision = next(one for one in plan.decisions if one.key == KEY)
    if wanted_format == "json":
        print(json.dumps({"file": shown, **measured.as_data(), "max_rows": decision.value, "rule": decision.rule}))
        return
    print("rows  ms a call     rows/s  memory")
    for point in measured.points:
        held = "" if point.memory_bytes is None else memory(point.memory_bytes)
        print(f"{point.rows:>4}  {point.seconds * 1e3:>9.3g}  {rate(point.rows_per_s):>9}  {held}")
    print(f"\nwritten to {shown}\n{KEY}: {decision.value} ({decision.rule})")
