"""The `model` block of a class of the user's own, and the rules that a schema can't state."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.model.spec import Source
from mlspec.runners import Faults


class PythonModel(Frozen):
    """`module` and `files` are what of the project the bundle gets; `class_name` is the class in `module`; `trusted`
    that `artifacts` may hold pickles.
    """

    runner: str
    task: Literal["predict"] = "predict"
    module: str
    class_name: str = Field(alias="class")
    files: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    artifacts: Source | None = None
    trusted: bool = False
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def check_model(model: PythonModel, faults: Faults) -> None:
    """That no file is named twice: both would land in the same place of the bundle."""
    for path, count in Counter((model.module, *model.files)).items():
        if count > 1:
            pointer = ("files", len(model.files) - 1 - model.files[::-1].index(path))
            faults.error("duplicate-name", f"the file {quoted(path)} is named twice", pointer, help="remove one")
