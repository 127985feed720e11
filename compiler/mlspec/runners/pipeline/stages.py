"""A pipeline's stages with their runners: their models' names and places as the whole spec has them, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from mlspec import runners
from mlspec.model.document import Pointer
from mlspec.model.facts import Facts, ModelFacts, ModelRef
from mlspec.model.target import Target
from mlspec.runners import Faults, Runner
from mlspec.runners.pipeline.model import PipelineModel, Stage
from mlspec.tensors.plan import TensorModelPlan, TensorModelPlanner
from mlspec.tensors.steps import Block, Stepped, stepped


class StageRunner(Runner, TensorModelPlanner, Protocol):
    """What a stage's runner has to be."""


@dataclass(frozen=True)
class StageRef(ModelRef):
    """A stage's model: `own` is what its `runner` calls it, `within` the place of its block in the pipeline's."""

    runner: str
    own: ModelRef
    within: Pointer


@dataclass(frozen=True)
class StageFaults:
    """Faults of a part of the pipeline's block."""

    outer: Faults
    within: Pointer

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.outer.error(code, message, (*self.within, *pointer), help=help)

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.outer.warning(code, message, (*self.within, *pointer), help=help)

    def of_service(self) -> Faults:
        """A stage has no service of its own."""
        return self.outer.of_service()


@dataclass(frozen=True)
class Opened:
    """A stage, its runner, and its model in the runner's type."""

    index: int
    stage: Stage
    runner: StageRunner
    model: Any

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def place(self) -> Pointer:
        """The stage's in the pipeline's block."""
        return ("stages", self.index)

    @property
    def block(self) -> Block:
        return Block(self.stage.pre, self.stage.post)

    def refs(self) -> Iterator[StageRef]:
        """The stage's models, by names that are the pipeline's own."""
        within = (*self.place, "model")
        for ref in self.runner.models(self.model):
            yield StageRef(
                f"{self.name}/{ref.role}", ref.source, (*within, *ref.pointer), self.runner.name, ref, within
            )

    def facts(self, facts: Facts) -> Facts:
        """Those of the stage's models, as its runner knows them."""
        return Facts(tuple(replace(facts.of(ref.role), ref=ref.own) for ref in self.refs()))

    def plan(
        self, facts: Facts, target: Target, given: Mapping[str, str | None], faults: Faults
    ) -> TensorModelPlan | None:
        """What its runner decides; None after a fault was reported."""
        own = StageFaults(faults, (*self.place, "model"))
        return self.runner.plan_model(self.model, self.facts(facts), target, given, own)

    def stepped(self, own: TensorModelPlan, facts: Facts, faults: Faults) -> Stepped | None:
        """What the stage takes and gives, with its steps; None after a fault was reported."""
        files = paths(self.facts(facts).models)
        return stepped(self.block, own.inputs, own.outputs, files, StageFaults(faults, self.place))


def paths(models: tuple[ModelFacts, ...]) -> Mapping[str, frozenset[str]]:
    """The paths in the models' folders, by role."""
    return {facts.ref.role: frozenset(file.path for file in facts.files) for facts in models}


def opened(model: PipelineModel) -> Iterator[Opened]:
    """The stages whose runner can be one of a pipeline. Their models fit their runners' types: validate saw to it."""
    for index, stage in enumerate(model.stages):
        runner = stage_runner(stage)
        if runner is not None:
            yield Opened(index, stage, runner, runner.model_type.model_validate(stage.model))


def stage_runner(stage: Stage) -> StageRunner | None:
    """The runner of a stage's model; None if it can't be one of a pipeline."""
    found: Any = runners.find(stage.model["runner"])
    is_one = isinstance(found, TensorModelPlanner)
    return found if is_one else None


def runner_of(ref: ModelRef) -> tuple[Any, StageRef]:
    """The runner of a stage's model."""
    if not isinstance(ref, StageRef):
        raise TypeError(f"'{ref.role}' is no model of a stage")
    return runners.find(ref.runner), ref
