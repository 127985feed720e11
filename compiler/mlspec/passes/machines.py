"""machines: the computer of each target, from the spec, a profile in the project and the data of known Macs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.characters import quoted
from mlspec.diagnostics import Report
from mlspec.model.document import Document, Pointer
from mlspec.model.machine import Machine
from mlspec.model.spec import MachineSpec, Spec, TargetSpec
from mlspec.passes.load import load
from mlspec.workspace import Workspace

if TYPE_CHECKING:
    from mlspec.hardware.machines import Found

AUTO = "auto"
_ONE_WAY = ("profile", "product", "chip")
_OF_MACS = ("product", "chip", "gpu_cores", "model", "macos")
_OF_LINUX = "a Linux machine is named by memory_gb and cpus, as in {memory_gb: 16, cpus: 8}"


def machines(
    spec: Spec, document: Document, workspace: Workspace, report: Report, wanted: str | None = None
) -> dict[str, Machine | None] | None:
    """The machine of each target by its name, None for a target that names none; None after a fault was reported."""
    found: dict[str, Machine | None] = {}
    faults = Report()
    for index, target in enumerate(spec.targets):
        if wanted in (None, target.name):
            place = _Place(("targets", index, "machine"), document, workspace, faults)
            found[target.name] = None if target.machine is None else _machine(target, target.machine, place)
    report.extend(faults)
    return None if faults.failed else found


@dataclass(frozen=True)
class _Place:
    """Where in the spec a machine stands, for faults; and what its project is."""

    pointer: Pointer
    document: Document
    workspace: Workspace
    report: Report

    @property
    def is_text(self) -> bool:
        """Whether the spec has a text there, and no map."""
        return self.document.raw(self.pointer) is not None

    @property
    def origin(self) -> str:
        return "/" + "/".join(map(str, self.pointer))

    def error(self, code: str, message: str, *within: str, help: str = "") -> None:
        self.report.error(code, message, self.document.value_span((*self.pointer, *within)), help=help)

    def warning(self, code: str, message: str) -> None:
        self.report.warning(code, message, self.document.value_span(self.pointer))


def _machine(target: TargetSpec, given: MachineSpec | str, place: _Place) -> Machine | None:
    from mlspec.hardware.machines import UnknownMachineError

    try:
        found = _this_computer(target, place) if given == AUTO else _declared(target, _as_map(given), place)
    except UnknownMachineError as problem:
        place.error("unknown-machine", str(problem), help=problem.help)
        return None
    for warning in found.warnings if found else ():
        place.warning("uncertain-machine", warning)
    return found.machine if found else None


def _as_map(given: MachineSpec | str) -> MachineSpec:
    return MachineSpec.model_construct(product=given) if isinstance(given, str) else given


def _this_computer(target: TargetSpec, place: _Place) -> Found | None:
    look = place.workspace.this_machine
    if look is None:
        help = "name the machine, or its profile: mlspec machine capture writes one"
        place.error("machine-not-reproducible", "'auto' is another machine on each computer that compiles", help=help)
        return None
    found = look()
    if (found.machine.chip is not None) != (target.platform == "macos"):
        have = "a Mac" if found.machine.chip else "no Mac"
        message = f"'auto' is the computer that compiles, which is {have}; this target's platform is {target.platform}"
        place.error("target-mismatch", message, help="name the machine that the service will run on")
        return None
    return found


def _declared(target: TargetSpec, given: MachineSpec, place: _Place) -> Found | None:
    from mlspec.hardware.machines import linux, mac

    if not (_fits_platform(target, given, place) and _complete(target, given, place)):
        return None
    profile = None
    if given.profile is not None:
        profile = _profile(given.profile, place)
        if profile is None:
            return None
    return (mac if target.platform == "macos" else linux)(given, place.origin, profile)


def _fits_platform(target: TargetSpec, given: MachineSpec, place: _Place) -> bool:
    """That the machine has only what a machine of this platform has."""
    if target.platform == "linux" and place.is_text:
        message = "a Linux target's machine has no product's name"
        place.error("target-mismatch", message, help=f"{_OF_LINUX}; or say platform: macos")
        return False
    strange = _strange(target)
    found = next((key for key in strange if getattr(given, key) is not None), None)
    if found is not None:
        place.error("target-mismatch", f"this target's machine has no {quoted(found)}", found, help=strange[found])
    return found is None


def _strange(target: TargetSpec) -> dict[str, str]:
    """The keys that a machine of this target can't have, each with the reason."""
    if target.platform == "macos":
        return {"gpu_memory_gb": "a Mac's GPU uses the machine's own memory: memory_gb"}
    keys = dict.fromkeys(_OF_MACS, f"it belongs to a Mac; {_OF_LINUX}")
    if target.accelerator in (None, "cpu"):
        keys["gpu_memory_gb"] = "this target computes on the processor; with accelerator cuda12 or cuda13 it has a GPU"
    return keys


def _complete(target: TargetSpec, given: MachineSpec, place: _Place) -> bool:
    ways = [key for key in _ONE_WAY if getattr(given, key) is not None]
    example = "machine: {chip: Apple M2 Max, memory_gb: 64}, or machine: Mac Studio 2025, M4 Max, 64 GB"
    if len(ways) > 1:
        place.error("machine-incomplete", f"{' and '.join(ways)} both say which machine it is", help="keep one")
    elif target.platform == "macos" and not ways:
        place.error("machine-incomplete", "which Mac is it?", help=example)
    elif (given.chip or target.platform == "linux") and given.memory_gb is None and given.profile is None:
        place.error("machine-incomplete", "how much memory does it have?", help="add memory_gb, in GB of 2^30 bytes")
    else:
        return True
    return False


def _profile(path: str, place: _Place) -> Mapping[str, Any] | None:
    """A machine's profile in the project, loaded and checked against its schema."""
    from mlspec.passes.project_files import check_project_file
    from mlspec.passes.validate import validate_profile

    span = place.document.value_span((*place.pointer, "profile"))
    if not check_project_file(path, span, place.workspace, place.report):
        return None
    file: Path = place.workspace.root / path
    document = load(file, path, place.report)
    return validate_profile(document, place.report) if document else None
