"""The build side of Core ML: the package's signature, its conversion from PyTorch, the Macs that it serves on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import Derivation, RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.model_files import BadModelFileError
from mlspec.pickles import refuse_pickles
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.coreml.model import EXPORTED, CoremlModel, check_model, source_ending
from mlspec.runners.coreml.package import ENDING, read_package, specification
from mlspec.runners.coreml.source import believe_source, read_source
from mlspec.tensors.artifacts import ArtifactRef, chosen
from mlspec.tensors.plan import TensorModelPlan, planned

if TYPE_CHECKING:
    from mlspec.starting.place import ModelFolder
    from mlspec.starting.spec_text import FirstModel

_HERE = Path(__file__).parent
_CONVERT = "save it again with coremltools: a package holds none"


@dataclass(frozen=True)
class SourceRef(ArtifactRef):
    """What is converted: a file that ends in `ending`, and the `code` beside it."""

    ending: str = ENDING
    code: tuple[str, ...] = ()


class CoremlRunner:
    """The runner `coreml`. A build runs the network's code only where `model.convert` says that it is trusted."""

    runner_api = RUNNER_API
    name = "coreml"
    tasks = ("predict", "embed")
    package = "coreml"
    model_type = CoremlModel
    looks_for = "an .mlpackage"

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: CoremlModel, faults: Faults) -> None:
        check_model(model, faults)

    def models(self, model: CoremlModel) -> tuple[ModelRef, ...]:
        place = ("artifacts", model.artifacts, ("artifacts",), model.file)
        if model.convert is None:
            return (ArtifactRef(*place),)
        return (SourceRef(*place, ending=source_ending(model.convert), code=model.convert.code),)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        name = chosen(ref, folder, (ref.ending if isinstance(ref, SourceRef) else ENDING,), faults)
        if name is None:
            return None
        try:
            found = (
                read_source(ref, folder, name, ref.code)
                if isinstance(ref, SourceRef)
                else read_package(ref, folder, name)
            )
        except BadModelFileError as problem:
            faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="save or fetch it again")
            return None
        # An exported program holds pickles: it is trusted by its digest, or not taken.
        names = [file.path for file in found.files if not file.path.endswith(EXPORTED)]
        return found if refuse_pickles(ref, folder, names, faults, _CONVERT) else None

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them. Raises ValueError."""
        if isinstance(ref, SourceRef):
            believe_source(details)
        else:
            specification(details)

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        return planned(self, spec, facts, target, faults)

    def plan_model(
        self, model: CoremlModel, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        from mlspec.runners.coreml.planning import plan_model  # only for a plan: a check of a spec is quicker

        return plan_model(model, facts.of("artifacts"), target, faults)

    def derive(self, derivation: Derivation, source: Path, into: Path) -> None:
        """Convert the network in the folder `source`. Raises CommandError."""
        from mlspec.runners.coreml.conversion import convert  # most models are packages already

        convert(derivation.settings, source, into)

    def recognise(self, place: ModelFolder) -> FirstModel | None:
        """The first spec of a folder with such a model."""
        from mlspec.starting.tensor_models import of_file  # only `mlspec init` asks

        return of_file(place, self.name, "a Core ML package, for a Mac", (".mlpackage",), tells_signature=True)

    def modules(self, model: CoremlModel) -> tuple[str, ...]:
        return ("coremltools", "numpy")

    def requirements(self, model: CoremlModel, target: Target) -> tuple[str, ...]:
        lines = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8")
        return tuple(lines.splitlines())

    def runtime_files(self, model: CoremlModel) -> Mapping[str, Path]:
        return {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: CoremlModel) -> Mapping[Pointer, str]:
        return {}


PART = CoremlRunner()
