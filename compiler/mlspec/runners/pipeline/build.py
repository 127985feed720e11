"""The build side of a pipeline: what its stages' runners say, put together. It knows none of them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlspec import runners
from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.plan import Derivation, RunnerPlan
from mlspec.model.spec import Spec
from mlspec.model.target import Target
from mlspec.runners import RUNNER_API, Faults
from mlspec.runners.pipeline.chain import Planned, chained
from mlspec.runners.pipeline.merging import agree, merged
from mlspec.runners.pipeline.model import PipelineModel
from mlspec.runners.pipeline.stages import Opened, StageFaults, opened, runner_of, stage_runner
from mlspec.tensors.plan import TensorModelPlan, planned
from mlspec.tensors.steps import check_step_file, step_files

_HERE = Path(__file__).parent


class PipelineRunner:
    """The runner `pipeline`."""

    runner_api = RUNNER_API
    name = "pipeline"
    tasks = ("predict", "embed")
    package = "pipeline"
    model_type = PipelineModel

    def model_schema(self) -> Mapping[str, Any] | None:
        return None

    def inner_blocks(self, block: Mapping[str, Any]) -> Mapping[Pointer, Any]:
        """The blocks of other runners in a `model` block, by their places in it."""
        return {("stages", index, "model"): stage["model"] for index, stage in enumerate(block["stages"])}

    def check(self, model: PipelineModel, faults: Faults) -> None:
        for index, stage in enumerate(model.stages):
            if stage_runner(stage) is None:
                message = f"the runner {quoted(stage.model['runner'])} can't be a stage: it serves no arrays"
                place = ("stages", index, "model", "runner")
                faults.error("bad-stage", message, place, help="give it a service of its own")
        for stage_ in opened(model):
            stage_.runner.check(stage_.model, StageFaults(faults, (*stage_.place, "model")))

    def models(self, model: PipelineModel) -> tuple[ModelRef, ...]:
        return tuple(ref for stage in opened(model) for ref in stage.refs())

    def inspect(self, ref: ModelRef, folder: Path, faults: Faults) -> ModelFacts | None:
        runner, stage = runner_of(ref)
        facts: ModelFacts | None = runner.inspect(stage.own, folder, StageFaults(faults, stage.within))
        return facts and replace(facts, ref=ref)

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """As the stage's runner does, where it looks into a lock's details."""
        runner, stage = runner_of(ref)
        if hasattr(runner, "believe"):
            runner.believe(stage.own, details)

    def plan(self, spec: Spec, facts: Facts, target: Target, faults: Faults) -> RunnerPlan | None:
        return planned(self, spec, facts, target, faults)

    def plan_model(
        self, model: PipelineModel, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        stages = tuple(opened(model))
        if not agree([(stage, stage.runner.requirements(stage.model, target)) for stage in stages], faults):
            return None
        found = [_planned(stage, facts, target, given, faults) for stage in stages]
        whole = [stage for stage in found if stage is not None]
        chain = chained(model, whole, faults) if len(whole) == len(found) else None
        return None if chain is None else merged(chain, whole, faults)

    def derive(self, derivation: Derivation, source: Path, into: Path) -> None:
        """As the stage's runner does. Raises CommandError."""
        role, settings = derivation.role.partition("/")[2], derivation.settings
        runner: Any = runners.find(settings["runner"])
        runner.derive(replace(derivation, role=role, settings=settings["of_stage"]), source, into)

    def modules(self, model: PipelineModel) -> tuple[str, ...]:
        return _union(stage.runner.modules(stage.model) for stage in opened(model))

    def requirements(self, model: PipelineModel, target: Target) -> tuple[str, ...]:
        return _union(stage.runner.requirements(stage.model, target) for stage in opened(model))

    def runtime_files(self, model: PipelineModel) -> Mapping[str, Path]:
        own = {f"{self.package}/{path.name}": path for path in sorted(_HERE.glob("runtime*.py"))}
        return {**own, **{k: v for stage in opened(model) for k, v in stage.runner.runtime_files(stage.model).items()}}

    def user_files(self, model: PipelineModel) -> Mapping[Pointer, str]:
        return {pointer: path for stage in opened(model) for pointer, path in _user_files(stage).items()}

    def check_user_file(self, model: PipelineModel, pointer: Pointer, file: Path, faults: Faults) -> None:
        """As the stage's runner does, where it knows what must be in the file; modules of steps. Raises OSError."""
        stage = next(stage for stage in opened(model) if pointer[:2] == stage.place)
        if pointer[2] != "model":
            check_step_file(stage.block, pointer[2:], file, StageFaults(faults, stage.place))
        elif hasattr(stage.runner, "check_user_file"):
            within = (*stage.place, "model")
            stage.runner.check_user_file(stage.model, pointer[3:], file, StageFaults(faults, within))


def _planned(
    stage: Opened, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
) -> Planned | None:
    own = stage.plan(facts, target, given, faults)
    asked = None if own is None else stage.stepped(own, facts, faults)
    return None if own is None or asked is None else Planned(stage, own, asked)


def _user_files(stage: Opened) -> Mapping[Pointer, str]:
    of_model = {
        (*stage.place, "model", *pointer): path for pointer, path in stage.runner.user_files(stage.model).items()
    }
    of_steps = {(*stage.place, *pointer): path for pointer, path in step_files(stage.block).items()}
    return {**of_model, **of_steps}


def _union(groups: Any) -> tuple[str, ...]:
    """Each once, in the order of the stages."""
    return tuple(dict.fromkeys(item for group in groups for item in group))


PART = PipelineRunner()
