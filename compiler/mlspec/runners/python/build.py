"""The build side of the user's own class: what it takes and gives, its files and requirements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelFile, ModelRef
from mlspec.model.plan import Decision, MemoryPart, RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.model_files import BadModelFileError, files_below, fingerprint
from mlspec.pickles import pickle_in
from mlspec.requirements import overridden, package
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.python.model import PythonModel, check_model
from mlspec.tensors.plan import TensorModelPlan, planned
from mlspec.user_callables import check_has_one
from mlspec.user_code import check_name

if TYPE_CHECKING:
    from mlspec.starting.place import ModelFolder
    from mlspec.starting.spec_text import FirstModel

_HERE = Path(__file__).parent
_PICKLES = "pickles"
_METHODS = ("predict", "predict_batch")


class PythonRunner:
    """The runner `python`. The user's code is copied into the bundle and never run by a build."""

    runner_api = RUNNER_API
    name = "python"
    tasks = ("predict",)
    package = "python"
    model_type = PythonModel
    looks_for = "a .py file with a class that has predict"

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: PythonModel, faults: Faults) -> None:
        check_model(model, faults)

    def models(self, model: PythonModel) -> tuple[ModelRef, ...]:
        return (ModelRef("artifacts", model.artifacts, ("artifacts",)),) if model.artifacts else ()

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        try:
            files = fingerprint(folder, files_below(folder))
        except BadModelFileError as problem:
            faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="check the file")
            return None
        return ModelFacts(ref, files, sum(f.size_bytes for f in files if f.hashed == "header"), _pickles(folder, files))

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them. Raises ValueError."""
        found = details.get(_PICKLES, {})
        if not isinstance(found, dict) or not all(isinstance(kind, str) for kind in found.values()):
            raise ValueError("pickles are told by their files' names")

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        return planned(self, spec, facts, target, faults)

    def plan_model(
        self, model: PythonModel, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        if not _may_load(model, facts, faults):
            return None
        settings = {
            "module": str(PurePosixPath("user", model.module)),
            "class": model.class_name,
            "artifacts": model.artifacts is not None,
        }
        torch, environment = _torch(model, target, given)
        return TensorModelPlan(
            settings,
            model.inputs,
            model.outputs,
            batches=False,
            decisions=torch,
            environment=environment,
            memory=_memory(model, facts),
            budget_bytes=_budget_bytes(model, target),
        )

    def recognise(self, place: ModelFolder) -> FirstModel | None:
        """The first spec of a folder with a class like those that it serves."""
        from mlspec.starting.tensor_models import of_class  # only `mlspec init` asks

        return of_class(place, self.name, "a class of your own", _METHODS)

    def modules(self, model: PythonModel) -> tuple[str, ...]:
        return ("numpy",)

    def requirements(self, model: PythonModel, target: Target) -> tuple[str, ...]:
        ours = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8").splitlines()
        return overridden(ours, model.requirements)

    def runtime_files(self, model: PythonModel) -> Mapping[str, Path]:
        return {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: PythonModel) -> Mapping[Pointer, str]:
        return {("module",): model.module, **{("files", index): path for index, path in enumerate(model.files)}}

    def check_user_file(self, model: PythonModel, pointer: Pointer, file: Path, faults: Faults) -> None:
        """That the module has the class, and this what the runtime calls. Raises OSError."""
        if pointer == ("module",):
            check_name(file, model.class_name, "class", ("class",), faults)
            check_has_one(file, model.class_name, _METHODS, faults)


def _pickles(folder: Path, files: Iterable[ModelFile]) -> dict[str, dict[str, str]]:
    """Which files hold pickles, and what they are; nothing if there are none. Raises OSError."""
    found = {file.path: kind for file in files if (kind := pickle_in(folder / file.path))}
    return {_PICKLES: found} if found else {}


def _may_load(model: PythonModel, facts: Facts, faults: Faults) -> bool:
    """Whether the class may be given its artifacts: pickles only if the spec trusts them."""
    found = facts.of("artifacts").details.get(_PICKLES, {}) if model.artifacts and not model.trusted else {}
    for name, kind in sorted(found.items()):
        help = "save it as what holds data only (.npz, .safetensors, .json), or write trusted: true if you made it"
        message = f"artifacts: {quoted(name)} is {kind}: loading it could run anything"
        faults.error("pickle", message, ("artifacts",), help=help)
    return not found


def _has_torch(model: PythonModel) -> bool:
    return "torch" in map(package, model.requirements)


def _torch(
    model: PythonModel, target: Target, given: Mapping[str, str | None]
) -> tuple[tuple[Decision, ...], Mapping[str, str]]:
    """What torch is set up with, where the class's requirements pin it."""
    if not _has_torch(model):
        return (), {}
    from mlspec.hardware.mps import torch_plan  # most classes have no torch

    return torch_plan(target, given)


def _memory(model: PythonModel, facts: Facts) -> tuple[MemoryPart, ...]:
    """The least that the class will need, as far as its files tell; empty without artifacts."""
    if model.artifacts is None:
        return ()
    size_bytes = sum(file.size_bytes for file in facts.of("artifacts").files)
    rule = "the sizes of its files: what the class makes of them, and what it computes with, isn't known"
    return (MemoryPart("artifacts", size_bytes, rule),)


def _budget_bytes(model: PythonModel, target: Target) -> int | None:
    """With torch what the accelerator may hold; else the class computes where it likes, in all the memory."""
    if target.machine is None:
        return None
    if not _has_torch(model):
        return max(0, target.machine.memory_bytes - target.machine.reserved_bytes)
    from mlspec.hardware.budget import budget  # only for a machine

    allowed = budget(target)
    return allowed.bytes if allowed else None


PART = PythonRunner()
