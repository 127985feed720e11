"""The `model` block of a network of PyTorch, and the rules that a schema can't state."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import Field

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.model.spec import Source
from mlspec.runners import Faults

SAFETENSORS, STATE_DICT, EXPORTED = ".safetensors", (".pt", ".pth"), ".pt2"
SUFFIXES = (SAFETENSORS, *STATE_DICT, EXPORTED)


class TorchModel(Frozen):
    """`module` and `files` are project files that the bundle gets; `class_name` is the network's class in `module`,
    made with `arguments`. An exported program has no module, and knows its inputs and outputs itself.
    """

    runner: str
    task: Literal["predict", "embed"] = "predict"
    artifacts: Source
    file: str | None = None
    module: str | None = None
    class_name: str | None = Field(default=None, alias="class")
    arguments: dict[str, Any] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    device: Literal["auto", "mps", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    compile: bool = False
    trusted: bool = False
    sha256: str | None = None
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None


def check_model(model: TorchModel, faults: Faults) -> None:
    """What can be said of the block alone; what depends on the file's kind follows when that is known."""
    if model.file is not None and PurePosixPath(model.file).suffix not in SUFFIXES:
        faults.error("model-format", _no_suffix(model.file), ("file",), help=_SAVE)
    if (model.module is None) != (model.class_name is None):
        there, lacking = ("module", "class") if model.class_name is None else ("class", "module")
        faults.error(
            "missing-key", f"model has {there} and no {lacking}", (there,), help=f"give both, or leave {there} out"
        )
    if model.trusted and model.sha256 is None:
        message = "a file is trusted by its digest, and the spec has none"
        faults.error("untrusted-model", message, ("trusted",), help="add sha256: what `shasum -a 256 FILE` prints")
    _check_tensors(model, faults)
    _check_files(model, faults)


_SAVE = 'save the tensors: safetensors.torch.save_file(network.state_dict(), "model.safetensors")'


def _no_suffix(file: str) -> str:
    return f"{quoted(file)} is no kind of file that mlspec loads with torch: it takes {', '.join(SUFFIXES)}"


def _check_tensors(model: TorchModel, faults: Faults) -> None:
    for key, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        for index, tensor in enumerate(tensors or ()):
            if tensor.dtype == "string":
                message = f"'{tensor.name}' is of text, and torch has no such tensors"
                faults.error(
                    "unknown-value",
                    message,
                    (key, index, "dtype"),
                    help="turn texts into numbers by a step of service.pre",
                )


def _check_files(model: TorchModel, faults: Faults) -> None:
    """That no file is named twice: both would land in the same place of the bundle."""
    named = (*filter(None, [model.module]), *model.files)
    for path, count in Counter(named).items():
        if count > 1:
            pointer = ("files", len(model.files) - 1 - model.files[::-1].index(path))
            faults.error("duplicate-name", f"the file {quoted(path)} is named twice", pointer, help="remove one")
