"""The `model` block of a network of MLX."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.model.spec import Source
from mlspec.runners import Faults

Dtype = Literal["auto", "keep", "float32", "float16", "bfloat16"]


class MlxModel(Frozen):
    """`class_name` is the class in `module`, made with `arguments`; `file` is that of the arrays in `artifacts`, None
    the only one there. `files` are further project files that `module` needs.
    """

    runner: str
    task: Literal["predict", "embed"] = "predict"
    artifacts: Source
    file: str | None = None
    module: str
    class_name: str = Field(alias="class")
    arguments: dict[str, Any] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    dtype: Dtype = "auto"
    compile: bool = False
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def check_model(model: MlxModel, faults: Faults) -> None:
    """That MLX has arrays of the declared types, and that no file is named twice."""
    for key, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        for index, tensor in enumerate(tensors):
            if tensor.dtype == "string":
                message = f"{quoted(tensor.name)}: MLX has no arrays of texts"
                help = "let a step of service.pre make numbers of them, or take the runner python"
                faults.error("bad-value", message, (key, index, "dtype"), help=help)
    _check_files(model, faults)


def _check_files(model: MlxModel, faults: Faults) -> None:
    known = {model.module}
    for index, path in enumerate(model.files):
        if path in known:
            message = f"the file {quoted(path)} is named twice"
            faults.error("duplicate-name", message, ("files", index), help="remove one")
        known.add(path)
