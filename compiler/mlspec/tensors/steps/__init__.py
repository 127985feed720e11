"""Steps before and after a model of tensors: what each does to the arrays, so that requests and answers follow from
the model, and what doesn't fit is found as a spec is compiled. `mlspec_runtime.predict.steps` carries them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.model.document import Pointer
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.model.spec import ServiceSpec
from mlspec.runners import Faults
from mlspec.suggest import listed
from mlspec.tensors.fitting import misfit
from mlspec.tensors.steps.base import Applied, Around, BadStepError
from mlspec.tensors.steps.general import Function, Rename
from mlspec.tensors.steps.images import Resize
from mlspec.tensors.steps.numeric import Argmax, L2Normalize, Labels, Normalize, Sigmoid, Softmax, TopK, Transpose
from mlspec.tensors.steps.pooling import FirstToken, MeanPool
from mlspec.tensors.steps.texts import Tokenize
from mlspec.user_callables import check_function
from mlspec.user_code import check_name

STEPS: Mapping[str, type[Frozen]] = {
    "resize": Resize,
    "normalize": Normalize,
    "transpose": Transpose,
    "tokenize": Tokenize,
    "rename": Rename,
    "function": Function,
    "softmax": Softmax,
    "sigmoid": Sigmoid,
    "argmax": Argmax,
    "top_k": TopK,
    "mean_pool": MeanPool,
    "first_token": FirstToken,
    "l2_normalize": L2Normalize,
    "labels": Labels,
}
"""By the names that specs use."""

_PACKAGES = {"tokenize": "tokenizers", "resize": "pillow"}
"""What the step's runtime imports beside NumPy."""


@dataclass(frozen=True)
class Block:
    """A model's steps as one block of a spec has them, with what the block declares that requests and answers hold."""

    pre: Sequence[Mapping[str, Any]] = ()
    post: Sequence[Mapping[str, Any]] = ()
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None


def service_steps(service: ServiceSpec) -> Block:
    """The steps of a whole service."""
    return Block(service.pre, service.post, service.inputs, service.outputs)


@dataclass(frozen=True)
class Stepped:
    """What requests and answers hold, and the steps between them and the model as the bundle's runtime reads them."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    pre: tuple[Mapping[str, Any], ...] = ()
    post: tuple[Mapping[str, Any], ...] = ()


def stepped(
    block: Block,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    files: Mapping[str, frozenset[str]],
    faults: Faults,
) -> Stepped | None:
    """The steps of a model of these inputs and outputs; None after a fault was reported, in the block.

    `files` are the paths in the models' folders, by role.
    """
    of_model = {tensor.name: tensor for tensor in inputs}
    before = _before(block, of_model, Around(block.inputs, of_model, files), faults)
    after = _after(block, outputs, Around(block.outputs, of_model, files), faults)
    if before is None or after is None:
        return None
    return Stepped(before[0], after[0], before[1], after[1])


_Side = tuple[tuple[Tensor, ...], tuple[Mapping[str, Any], ...]]


def _before(block: Block, model_inputs: Mapping[str, Tensor], around: Around, faults: Faults) -> _Side | None:
    arrays, settings = model_inputs, list[Mapping[str, Any]]()
    for index in reversed(range(len(block.pre))):
        applied = _applied(block.pre[index], ("pre", index), "taken", arrays, around, faults)
        if applied is None:
            return None
        arrays = applied.arrays
        settings.insert(0, applied.settings)
    tensors = tuple(arrays.values())
    if block.inputs is not None and not _are_taken(block.inputs, tensors, faults):
        return None
    return (block.inputs or tensors, tuple(settings))


def _after(block: Block, outputs: Sequence[Tensor], around: Around, faults: Faults) -> _Side | None:
    arrays: Mapping[str, Tensor] = {tensor.name: tensor for tensor in outputs}
    settings = []
    for index, raw in enumerate(block.post):
        applied = _applied(raw, ("post", index), "given", arrays, around, faults)
        if applied is None:
            return None
        arrays = applied.arrays
        settings.append(applied.settings)
    tensors = tuple(arrays.values())
    if block.outputs is not None and not _are_given(block.outputs, tensors, faults):
        return None
    return (block.outputs or tensors, tuple(settings))


def _applied(
    raw: Mapping[str, Any],
    pointer: Pointer,
    side: str,
    arrays: Mapping[str, Tensor],
    around: Around,
    faults: Faults,
) -> Applied | None:
    step: Any = STEPS[raw["step"]].model_validate(raw)
    try:
        if not hasattr(step, side):
            raise _misplaced(raw["step"], side)
        applied: Applied = getattr(step, side)(arrays, around)
    except BadStepError as fault:
        faults.error("bad-step", f"{raw['step']}: {fault}", (*pointer, *fault.pointer), help=fault.help)
        return None
    return applied


def _misplaced(name: str, side: str) -> BadStepError:
    fitting = [known for known, kind in STEPS.items() if hasattr(kind, side)]
    stands = "before" if side == "taken" else "after"
    return BadStepError(f"it does not stand {stands} a model", "step", help=f"there can be {listed(fitting)}")


def _are_taken(declared: Sequence[Tensor], wanted: Sequence[Tensor], faults: Faults) -> bool:
    """Whether requests hold what the first step takes, or the model where there is none."""
    names = {tensor.name: tensor for tensor in wanted}
    for index, tensor in enumerate(declared):
        if tensor.name not in names:
            message = f"nothing takes the input '{tensor.name}'"
            faults.error("bad-step", message, ("inputs", index), help=f"the steps and the model take {listed(names)}")
            return False
        if told := misfit(tensor, names[tensor.name], strict=True):
            faults.error("bad-step", f"the input '{tensor.name}' {told}", ("inputs", index), help="declare it so")
            return False
    if lacking := [name for name in names if name not in {tensor.name for tensor in declared}]:
        message = f"the steps and the model take {listed(lacking)}, too"
        faults.error("bad-step", message, ("inputs",), help="declare it, or let a step make it")
        return False
    return True


def _are_given(declared: Sequence[Tensor], available: Sequence[Tensor], faults: Faults) -> bool:
    """Whether the last step, or the model, gives what answers are to hold. They may hold less than it gives."""
    names = {tensor.name: tensor for tensor in available}
    for index, tensor in enumerate(declared):
        if tensor.name not in names:
            message = f"nothing gives the output '{tensor.name}'"
            faults.error("bad-step", message, ("outputs", index), help=f"the model and the steps give {listed(names)}")
            return False
        if told := misfit(names[tensor.name], tensor):
            faults.error("bad-step", f"the output '{tensor.name}' {told}", ("outputs", index), help="declare it so")
            return False
    return True


def step_files(block: Block) -> Mapping[Pointer, str]:
    """Files of the project that the steps need, by where the block names them."""
    return {pointer: path for key in ("pre", "post") for pointer, path in _files(key, getattr(block, key))}


def _files(key: str, steps: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Pointer, str]]:
    for index, step in enumerate(steps):
        for name in ("module", "tokenizer"):
            if name in step:
                yield (key, index, name), step[name]
        for at, path in enumerate(step.get("files", ())):
            yield (key, index, "files", at), path


def check_step_file(block: Block, pointer: Pointer, file: Path, faults: Faults) -> None:
    """That a step's module has its function, as it is called; `pointer` is the file's, in the block. Raises OSError."""
    if len(pointer) == 3 and pointer[2] == "module":
        step = getattr(block, str(pointer[0]))[pointer[1]]
        at = (*pointer[:2], "name")
        check_name(file, step["name"], "function", at, faults)
        check_function(file, step["name"], at, faults)


def step_packages(block: Block) -> tuple[str, ...]:
    """The packages that the steps' runtime imports beside NumPy, sorted."""
    return tuple(sorted({_PACKAGES[step["step"]] for step in (*block.pre, *block.post) if step["step"] in _PACKAGES}))
