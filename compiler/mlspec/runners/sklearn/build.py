"""The build side of models of scikit-learn: what their file makes, and which scikit-learn loads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.model_files import BadModelFileError, fingerprint
from mlspec.pickles import pickle_in, refuse_pickles
from mlspec.requirements import overridden
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.sklearn.model import SklearnModel, check_model
from mlspec.runners.sklearn.planning import plan_model
from mlspec.runners.sklearn.skops_file import read_skops
from mlspec.tensors.artifacts import ArtifactRef, chosen
from mlspec.tensors.plan import TensorModelPlan, planned

if TYPE_CHECKING:
    from mlspec.starting.place import ModelFolder
    from mlspec.starting.recognising import NoModel
    from mlspec.starting.spec_text import FirstModel

_HERE = Path(__file__).parent
_ENDINGS = (".skops",)
_PICKLED = (".pkl", ".pickle", ".joblib")


class SklearnRunner:
    """The runner `sklearn`. Its file is read, and nothing is made of it by a build."""

    runner_api = RUNNER_API
    name = "sklearn"
    tasks = ("predict", "embed")
    package = "sklearn"
    model_type = SklearnModel
    looks_for = "a .skops file"

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: SklearnModel, faults: Faults) -> None:
        check_model(model, faults)

    def models(self, model: SklearnModel) -> tuple[ModelRef, ...]:
        return (ArtifactRef("artifacts", model.artifacts, ("artifacts",), model.file),)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        if _is_pickled(ref, folder, faults):
            return None
        name = chosen(ref, folder, _ENDINGS, faults)
        if name is None or not refuse_pickles(ref, folder, [name], faults, _SAVE):
            return None
        try:
            found = read_skops(folder / name)
            files = fingerprint(folder, [name])
        except BadModelFileError as problem:
            faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help=_SAVE)
            return None
        details = {
            "file": name,
            "estimator": found.estimator,
            "features": found.features,
            "protocol": found.protocol,
            "sklearn_versions": list(found.sklearn_versions),
            "untrusted": list(found.untrusted),
        }
        return ModelFacts(ref, files, found.size_bytes, details)

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them. Raises ValueError."""
        for key in ("sklearn_versions", "untrusted"):
            if not isinstance(details.get(key), list) or not all(isinstance(one, str) for one in details[key]):
                raise ValueError(f"{key}: no list of names")
        if not isinstance(details.get("file"), str) or type(details.get("features")) not in (int, type(None)):
            raise ValueError("not the facts of a file of skops")

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        return planned(self, spec, facts, target, faults)

    def plan_model(
        self, model: SklearnModel, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        return plan_model(model, facts.of("artifacts"), target, self.requirements(model, target), faults)

    def recognise(self, place: ModelFolder) -> FirstModel | NoModel | None:
        """The first spec of a folder with such a model."""
        from mlspec.starting.tensor_models import of_file, of_pickles  # only `mlspec init` asks

        found = of_file(place, self.name, "a scikit-learn model", _ENDINGS, tells_signature=False)
        return found or of_pickles(place, (".pkl", ".joblib"), "save it by skops: skops.io.dump(model, 'model.skops')")

    def modules(self, model: SklearnModel) -> tuple[str, ...]:
        return ("numpy", "sklearn", "skops", *(("pandas",) if model.as_table else ()))

    def requirements(self, model: SklearnModel, target: Target) -> tuple[str, ...]:
        ours = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8").splitlines()
        return overridden(ours, model.requirements)

    def runtime_files(self, model: SklearnModel) -> Mapping[str, Path]:
        return {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: SklearnModel) -> Mapping[Pointer, str]:
        return {("files", index): path for index, path in enumerate(model.files)}


_SAVE = 'save it with skops: skops.io.dump(model, "model.skops"), or as ONNX: skl2onnx.to_onnx, for the runner onnx'


def _is_pickled(ref: ModelRef, folder: Path, faults: Faults) -> bool:
    """Whether the model is a pickle: the file that is named, or one where no file of skops is."""
    named = ref.file if isinstance(ref, ArtifactRef) else None
    entries = [named] if named else sorted(path.name for path in folder.iterdir())
    if not named and any(name.endswith(_ENDINGS) for name in entries):
        return False
    suspects = [name for name in entries if name.lower().endswith(_PICKLED) or named]
    return not refuse_pickles(ref, folder, [name for name in suspects if pickle_in(folder / name)], faults, _SAVE)


PART = SklearnRunner()
