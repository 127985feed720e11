"""The `model` block of a Core ML package, and of what a build converts into one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.model.spec import Source
from mlspec.runners import Faults
from mlspec.suggest import listed

EXPORTED, SAFETENSORS = ".pt2", ".safetensors"
DTYPES = ("float16", "float32", "int32")
"""That a converted model takes and gives; a package of another origin may have float64, too."""

_UNTRUSTED = "say trusted: true if you would run this code on your computer"


class Convert(Frozen):
    """What is made into a package: an exported program of torch, or the tensors of `class_name` in `module`, which lies
    beside them as `files` do. `max_rows` is the most that one call of the package takes.
    """

    trusted: bool = False
    sha256: str | None = None
    module: str | None = None
    class_name: str | None = Field(default=None, alias="class")
    arguments: dict[str, Any] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    minimum_deployment_target: Literal["macOS12", "macOS13", "macOS14", "macOS15"] = "macOS13"
    precision: Literal["float16", "float32"] = "float16"
    max_rows: int = 64

    @property
    def code(self) -> tuple[str, ...]:
        """The files beside the tensors that are run."""
        return tuple(filter(None, (self.module, *self.files)))


class CoremlModel(Frozen):
    """`file` is the package in `artifacts`, or with `convert` what it is made of; None: the only one there."""

    runner: str
    task: Literal["predict", "embed"] = "predict"
    artifacts: Source
    file: str | None = None
    convert: Convert | None = None
    compute_units: Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"] = "all"
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None


def check_model(model: CoremlModel, faults: Faults) -> None:
    """What a conversion needs to know, and may run."""
    if model.convert is None:
        return
    _check_trust(model, model.convert, faults)
    for key, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if tensors is None:
            message = f"a converted model has no {key} of its own to go by"
            faults.error("missing-key", message, ("convert",), help=f"declare {key}, in the order of the network's")
    _check_tensors(model, model.convert, faults)


def _check_trust(model: CoremlModel, convert: Convert, faults: Faults) -> None:
    if not convert.trusted:
        faults.error("untrusted-model", "converting runs the network's own code", ("convert",), help=_UNTRUSTED)
    if (convert.module is None) != (convert.class_name is None):
        there, lacking = ("module", "class") if convert.class_name is None else ("class", "module")
        message = f"model.convert has {there} and no {lacking}"
        faults.error("missing-key", message, ("convert", there), help=f"give both; a {EXPORTED} file needs neither")
    if convert.module is None and convert.sha256 is None:
        message = f"a {EXPORTED} file is trusted by its digest, and the spec has none"
        faults.error("untrusted-model", message, ("convert",), help="add sha256: what `shasum -a 256 FILE` prints")
    ending = source_ending(convert)
    if model.file is not None and PurePosixPath(model.file).suffix != ending:
        why = "an exported program" if convert.module is None else "the tensors of a class"
        message = f"{quoted(model.file)} can't be converted: wanted is {why}"
        faults.error("model-format", message, ("file",), help=f"name a {ending} file")


def source_ending(convert: Convert) -> str:
    """The ending of the file that is converted."""
    return EXPORTED if convert.module is None else SAFETENSORS


def _check_tensors(model: CoremlModel, convert: Convert, faults: Faults) -> None:
    names = {str(tensor.shape[0]) for _, tensor in _tensors(model) if tensor.shape and isinstance(tensor.shape[0], str)}
    for pointer, tensor in _tensors(model):
        if tensor.dtype not in DTYPES:
            message = f"{quoted(tensor.name)}: a converted model has no arrays of {tensor.dtype}"
            faults.error("bad-value", message, (*pointer, "dtype"), help=f"it has {listed(DTYPES)}")
        elif tensor.dtype == "float16" and convert.minimum_deployment_target == "macOS12":
            message = f"{quoted(tensor.name)}: Core ML takes and gives float16 from macOS 13 on"
            faults.error("bad-value", message, (*pointer, "dtype"), help="take float32, or a later deployment target")
        if len(names) > 1 or any(isinstance(size, str) for size in tensor.shape[1:]):
            message = f"{quoted(tensor.name)}: a converted model has one open dimension, the first of each array"
            faults.error("bad-value", message, (*pointer, "shape"), help="write numbers for the others")


def _tensors(model: CoremlModel) -> Iterator[tuple[Pointer, Tensor]]:
    for key, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        yield from (((key, index), tensor) for index, tensor in enumerate(tensors or ()))
