"""The build side of models in ONNX: their signature, by their file, and what onnxruntime is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.model_files import BadModelFileError
from mlspec.pickles import refuse_pickles
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.onnx.facts import ENDINGS, believe, read_facts
from mlspec.runners.onnx.model import OnnxModel
from mlspec.runners.onnx.planning import plan_model
from mlspec.runners.onnx.versions import pinned
from mlspec.tensors.artifacts import ArtifactRef, chosen
from mlspec.tensors.plan import TensorModelPlan, planned

if TYPE_CHECKING:
    from mlspec.starting.place import ModelFolder
    from mlspec.starting.spec_text import FirstModel

_HERE = Path(__file__).parent


class OnnxRunner:
    """The runner `onnx`. Its file is read without any library: the signature, and where the tensors lie."""

    runner_api = RUNNER_API
    name = "onnx"
    tasks = ("predict", "embed")
    package = "onnx"
    model_type = OnnxModel
    looks_for = "an .onnx file"

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: OnnxModel, faults: Faults) -> None:
        """Nothing beyond the schema: what is declared is held against the file as it is planned."""

    def models(self, model: OnnxModel) -> tuple[ModelRef, ...]:
        return (ArtifactRef("artifacts", model.artifacts, ("artifacts",), model.file),)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        name = chosen(ref, folder, ENDINGS, faults)
        if name is None or not refuse_pickles(ref, folder, [name], faults, _CONVERT):
            return None
        try:
            return read_facts(ref, folder, name)
        except BadModelFileError as problem:
            faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help=_AGAIN)
            return None

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them. Raises ValueError."""
        believe(details)

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        _warn_of_units(spec, target, faults)
        return planned(self, spec, facts, target, faults)

    def plan_model(
        self, model: OnnxModel, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        version = pinned(self.requirements(model, target))
        return plan_model(model, facts.of("artifacts"), target, version, faults)

    def recognise(self, place: ModelFolder) -> FirstModel | None:
        """The first spec of a folder with such a model."""
        from mlspec.starting.tensor_models import of_file  # only `mlspec init` asks

        return of_file(place, self.name, "a model in ONNX", ENDINGS, tells_signature=True)

    def modules(self, model: OnnxModel) -> tuple[str, ...]:
        return ("numpy", "onnxruntime")

    def requirements(self, model: OnnxModel, target: Target) -> tuple[str, ...]:
        lines = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8")
        return tuple(lines.splitlines())

    def runtime_files(self, model: OnnxModel) -> Mapping[str, Path]:
        return {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: OnnxModel) -> Mapping[Pointer, str]:
        return {}


def _warn_of_units(spec: Spec, target: Target, faults: Faults) -> None:
    """Once, for all targets."""
    given = "compute_units" in spec.model.model_fields_set
    if given and target.name == spec.targets[0].name and all(one.platform != "macos" for one in spec.targets):
        message = "compute_units is for Core ML, and no target is a Mac: nothing comes of it"
        faults.warning("target-mismatch", message, ("compute_units",), help="leave it out, or add a target of macos")


_CONVERT = "export the model to ONNX: torch.onnx.export, or skl2onnx.to_onnx of one of scikit-learn"
_AGAIN = "export or fetch the model again, with the files of its tensors beside it"

PART = OnnxRunner()
