"""calibrations: what was measured of a model, from the file beside the spec that `mlspec bench --calibrate` wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.characters import quoted
from mlspec.diagnostics import Report
from mlspec.looking import kind_of, stays_inside
from mlspec.model.calibration import Calibration
from mlspec.model.facts import Facts
from mlspec.model.lock import digest
from mlspec.passes.load import load
from mlspec.passes.project_files import copied_user_files
from mlspec.passes.validate.checker import misfits, shipped
from mlspec.passes.validate.phrases import path_of

if TYPE_CHECKING:
    from mlspec.pipeline import Checked

VERSION = 1


def calibration_path(spec: Path) -> Path:
    """Where the measurements of a spec's model are, if there are any."""
    return spec.with_name(f"{spec.stem}.calibration.yaml")


def calibrations(checked: Checked, facts: Facts, report: Report) -> tuple[Calibration, ...]:
    """What was measured of the models as they are; nothing after a fault was reported. A warning for what was measured
    of others.
    """
    path, shown = calibration_path(checked.document.path), calibration_path(Path(checked.document.shown))
    found = _read(path, str(shown), checked, report)
    if not found:
        return ()
    now = model_digest(checked, facts)
    for one in found:
        if one.digest != now:
            message = f"'{shown}' is of another model or other code, for target '{one.target}'; it is not used"
            help = f"measure again: mlspec bench {checked.document.shown} --target {one.target} --calibrate"
            report.warning("stale-calibration", message, checked.document.value_span(("model",)), help=help)
    return tuple(one for one in found if one.digest == now)


def _read(path: Path, shown: str, checked: Checked, report: Report) -> tuple[Calibration, ...]:
    try:
        if kind_of(path) == "nothing":
            return ()
        if not stays_inside(path, checked.workspace.root):
            return _bad("is a link that leads out of the project", shown, checked, report)
    except OSError as problem:
        return _bad(f"can't be read: {(problem.strerror or str(problem)).lower()}", shown, checked, report)
    document = load(path, shown, report)
    if document is None or report.failed:
        return ()
    misfit = next(misfits(shipped("calibration"), document.data), None)
    if misfit is not None:
        return _bad(f"has no fit value at {path_of(misfit.pointer) or 'its top'}", shown, checked, report)
    if document.data["spec"] != checked.document.path.name:
        return _bad(f"is that of {quoted(document.data['spec'])}", shown, checked, report)
    return tuple(Calibration.from_data(entry) for entry in document.data["targets"])


def _bad(why: str, shown: str, checked: Checked, report: Report) -> tuple[Calibration, ...]:
    help = f"remove it, and measure anew: mlspec bench {checked.document.shown} --calibrate"
    span = checked.document.value_span(("model",))
    report.error("bad-calibration", f"the calibration {quoted(shown)} {why}", span, help=help)
    return ()


def model_digest(checked: Checked, facts: Facts) -> str:
    """Of all that decides how fast a batch is, but for the computer: the model block, the models' files by their
    facts, and the user's own code.
    """
    models = {one.ref.role: [vars(file) for file in one.files] for one in facts.models}
    service: dict[str, Any] = checked.document.data.get("service") or {}
    steps = {key: service.get(key) for key in ("pre", "post")}
    return digest({"model": checked.document.data["model"], "files": models, "steps": steps, "code": _code(checked)})


def _code(checked: Checked) -> dict[str, str]:
    named = {("model", *pointer): path for pointer, path in checked.runner.user_files(checked.spec.model).items()}
    # What is wrong with them is told where the plan is made.
    files = copied_user_files(named, checked.document, checked.workspace, Report()) or {}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
