"""The `model` block of a pipeline."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor


class Stage(Frozen):
    """One model of the pipeline: `model` is a block as a spec of its own would have it, in its runner's type later.

    `inputs` say where the stage's inputs come from: an input of the pipeline, or `stage.output`; those that aren't in
    it have the same name there.
    """

    name: str
    model: dict[str, Any]
    inputs: dict[str, str] = Field(default_factory=dict)
    pre: tuple[dict[str, Any], ...] = ()
    post: tuple[dict[str, Any], ...] = ()


class PipelineModel(Frozen):
    """`inputs` None: those of the first stage; `outputs` None: those of the last one."""

    runner: str
    task: Literal["predict", "embed"] = "predict"
    stages: tuple[Stage, ...]
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None
