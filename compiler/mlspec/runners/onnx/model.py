"""The `model` block of a model in ONNX, and what is known of it by its file."""

from __future__ import annotations

from typing import Literal

from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.model.spec import Source

Provider = Literal["auto", "cpu", "coreml", "cuda"]
ComputeUnits = Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"]


class OnnxModel(Frozen):
    """`file` is that in `artifacts`, None the only one there; `inputs` and `outputs` None: as the file says."""

    runner: str
    task: Literal["predict", "embed"] = "predict"
    artifacts: Source
    file: str | None = None
    provider: Provider = "auto"
    compute_units: ComputeUnits = "all"
    threads: int | Literal["auto"] = "auto"
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None
