"""What a Core ML model takes and gives, as tensors: read from its package, and held against what the spec declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlspec.model.signature import Image, Tensor
from mlspec.runners import Faults
from mlspec.runners.coreml.model import CoremlModel
from mlspec.runners.coreml.specification import Feature, Specification
from mlspec.signatures import Found, compared, identifier

Tensors = tuple[Tensor, ...]

_SCALARS: Mapping[str, str] = {"int64": "int64", "double": "float64", "string": "string"}


def named(features: Sequence[Feature]) -> dict[str, Feature]:
    """Features by their names in requests: those of the package may be any text."""
    found: dict[str, Feature] = {}
    for feature in features:
        found[identifier(feature.name, found)] = feature
    return found


def found_of(name: str, feature: Feature) -> Found:
    """A feature as what a request or an answer holds of it."""
    if feature.kind in _SCALARS:
        return Found(name, _SCALARS[feature.kind], ())
    if feature.kind == "image":
        return Found(name, "uint8", feature.shape if feature.color == "gray" else (*feature.shape, 3))
    if feature.kind != "array" or feature.dtype is None:
        return Found(name, unfit=f"a {feature.kind}")
    shape = tuple(_dimension(name, feature, at) for at in range(len(feature.shape)))
    return Found(name, feature.dtype, shape or None)


def _dimension(name: str, feature: Feature, at: int) -> int | str:
    """A size; a name where there may be several: `batch` for the first dimension, of all arrays the same."""
    sizes: set[int | None] = {shape[at] for shape in feature.shapes if len(shape) > at} or {feature.shape[at]}
    if len(feature.ranges) > at:
        sizes = {*feature.ranges[at]}
    if len(sizes) == 1 and None not in sizes:
        return int(feature.shape[at])
    return "batch" if at == 0 else f"{name}_{at}"


def limits(features: Mapping[str, Feature], tensors: Tensors) -> dict[str, Any]:
    """Of each input that has several shapes which: as the runtime reads it."""
    found = ((tensor.name, features[tensor.name]) for tensor in tensors)
    return {
        name: {"ranges": [list(r) for r in feature.ranges], "shapes": [list(s) for s in feature.shapes]}
        for name, feature in found
        if feature.ranges or feature.shapes
    }


def tensors_of(model: CoremlModel, found: Specification, faults: Faults) -> tuple[Tensors, Tensors] | None:
    """Inputs and outputs, as declared or as the package says; None after a fault was reported."""
    if found.states or found.functions:
        what = "states, which it keeps from one request to the next" if found.states else "several functions"
        faults.error("model-format", f"the package has {what}", ("artifacts",), help="save it with one function alone")
        return None
    asked = {tensor.name for tensor in model.inputs or ()}
    inputs = {n: f for n, f in named(found.inputs).items() if not f.optional or n in asked}
    taken = compared(model.inputs, [found_of(*item) for item in inputs.items()], "inputs", faults)
    given = compared(model.outputs, [found_of(*item) for item in named(found.outputs).items()], "outputs", faults)
    if taken is None or given is None or not _within(taken, inputs, faults):
        return None
    return taken if model.inputs else tuple(_as_image(tensor, inputs[tensor.name]) for tensor in taken), given


def _as_image(tensor: Tensor, feature: Feature) -> Tensor:
    """What the package takes as an image may come as a file of one."""
    if feature.kind != "image":
        return tensor
    image = Image(mode="gray", layout="none") if feature.color == "gray" else Image()
    return tensor.model_copy(update={"image": image})


def _within(tensors: Tensors, features: Mapping[str, Feature], faults: Faults) -> bool:
    """Whether the package takes the sizes that are declared where it leaves them open."""
    whole = True
    for index, tensor in enumerate(tensors):
        ranges = features[tensor.name].ranges
        for at, (size, (least, most)) in enumerate(zip(tensor.shape, ranges, strict=False)):
            if isinstance(size, int) and (size < least or (most is not None and size > most)):
                told = f"{least} to {most}" if most is not None else f"{least} and more"
                message = f"'{tensor.name}' has {size} in dimension {at}, where the package takes {told}"
                faults.error(
                    "wrong-signature", message, ("inputs", index, "shape", at), help="declare a size that it takes"
                )
                whole = False
    return whole
