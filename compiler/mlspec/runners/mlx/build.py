"""The build side of networks of MLX: a class of the user's, and the arrays that it is filled with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.model_files import BadModelFileError
from mlspec.pickles import refuse_pickles
from mlspec.requirements import overridden
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.mlx.facts import ENDINGS, Arrays, believe, read_facts
from mlspec.runners.mlx.model import MlxModel, check_model
from mlspec.tensors.artifacts import ArtifactRef, chosen
from mlspec.tensors.plan import TensorModelPlan, planned
from mlspec.user_callables import check_order
from mlspec.user_code import check_name

if TYPE_CHECKING:
    from mlspec.starting.place import ModelFolder
    from mlspec.starting.spec_text import FirstModel

_HERE = Path(__file__).parent
_SAVE = "save the arrays: mlx.core.save_safetensors(FILE, dict(tree_flatten(network.parameters())))"


class MlxRunner:
    """The runner `mlx`. The user's code is copied into the bundle and never run by a build."""

    runner_api = RUNNER_API
    name = "mlx"
    tasks = ("predict", "embed")
    package = "mlx"
    model_type = MlxModel
    looks_for = ".safetensors or .npz with the .py file of an mlx.nn.Module"

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def check(self, model: MlxModel, faults: Faults) -> None:
        check_model(model, faults)

    def models(self, model: MlxModel) -> tuple[ModelRef, ...]:
        return (ArtifactRef("artifacts", model.artifacts, ("artifacts",), model.file),)

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        name = chosen(ref, folder, ENDINGS, faults)
        if name is None or not refuse_pickles(ref, folder, [name], faults, _SAVE):
            return None
        try:
            return read_facts(ref, folder, name)
        except BadModelFileError as problem:
            faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="save the arrays again")
            return None

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them. Raises ValueError."""
        believe(details)

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        return planned(self, spec, facts, target, faults)

    def plan_model(
        self, model: MlxModel, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        from mlspec.runners.mlx.planning import decide, too_large  # only for a plan: a check of a spec is quicker

        arrays = Arrays.of(facts.of("artifacts"))
        decided = decide(model, arrays, target, given)
        if reason := too_large(decided, target):
            faults.error("does-not-fit", reason, ("artifacts",), help="take a larger machine, or a smaller dtype")
            return None
        settings = {
            "module": str(PurePosixPath("user", model.module)),
            "class": model.class_name,
            "arguments": model.arguments,
            "file": arrays.file,
            "dtype": decided.dtype,
            "compile": model.compile,
            "preload_blas": decided.decisions["runtime.preload_blas"].value,
            "memory": decided.memory,
        }
        return TensorModelPlan(
            settings,
            model.inputs,
            model.outputs,
            decisions=tuple(decided.decisions.values()),
            environment=decided.environment,
            system_packages=decided.system_packages,
            memory=decided.parts,
            budget_bytes=decided.budget.bytes if decided.budget else None,
        )

    def recognise(self, place: ModelFolder) -> FirstModel | None:
        """The first spec of a folder with such a model."""
        from mlspec.starting.tensor_models import of_network  # only `mlspec init` asks

        return of_network(place, self.name, "a network of MLX", ENDINGS, "mlx")

    def modules(self, model: MlxModel) -> tuple[str, ...]:
        return ("mlx", "numpy")

    def requirements(self, model: MlxModel, target: Target) -> tuple[str, ...]:
        ours = (_HERE / "requirements" / f"{target.constraint_set}.txt").read_text(encoding="utf-8").splitlines()
        return overridden(ours, model.requirements)

    def runtime_files(self, model: MlxModel) -> Mapping[str, Path]:
        return {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}

    def user_files(self, model: MlxModel) -> Mapping[Pointer, str]:
        return {("module",): model.module, **{("files", index): path for index, path in enumerate(model.files)}}

    def check_user_file(self, model: MlxModel, pointer: Pointer, file: Path, faults: Faults) -> None:
        """That the module has the class, which takes the inputs in their order. Raises OSError."""
        if pointer == ("module",):
            check_name(file, model.class_name, "class", ("class",), faults)
            check_order(file, model.class_name, "__call__", [one.name for one in model.inputs], faults)


PART = MlxRunner()
