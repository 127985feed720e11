"""What all steps share as a spec is compiled: what they look at, how they name what doesn't fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.model.signature import Tensor
from mlspec.suggest import did_you_mean, listed

Arrays = Mapping[str, Tensor]
"""The arrays at one place between a request and its answer, by their names."""

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class BadStepError(ValueError):
    """What is wrong with a step: `pointer` is the key in it."""

    def __init__(self, message: str, *pointer: str | int, help: str) -> None:
        super().__init__(message)
        self.pointer: Pointer = pointer
        self.help = help


@dataclass(frozen=True)
class Around:
    """What a step knows beside its arrays.

    `declared` are the arrays that the spec says for requests (before the model) or answers (after it), None where it
    doesn't; `model_inputs` are what the model gets; `files` are the paths in the models' folders, by role.
    """

    declared: tuple[Tensor, ...] | None = None
    model_inputs: Arrays = field(default_factory=dict)
    files: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Applied:
    """The arrays on the step's other side, and what its runtime reads of it."""

    arrays: Arrays
    settings: Mapping[str, Any]


class PreStep(Protocol):
    """A step before the model. The model says what must come out of the last one, so they are looked at backwards."""

    def taken(self, wanted: Arrays, around: Around) -> Applied:
        """The arrays that it needs to give those that are wanted of it. Raises BadStepError."""


class PostStep(Protocol):
    """A step after the model."""

    def given(self, available: Arrays, around: Around) -> Applied:
        """The arrays that there are after it. Raises BadStepError."""


def found(name: str, arrays: Arrays, key: str, what: str = "array") -> Tensor:
    """The array of this name. Raises BadStepError at `key` if there is none."""
    if name in arrays:
        return arrays[name]
    help = did_you_mean(name, arrays) or f"here are {listed(map(quoted, arrays))}"
    raise BadStepError(f"there is no {what} {quoted(name)} at this step", key, help=help)


def numbers(tensor: Tensor, dtypes: tuple[str, ...], key: str = "input") -> Tensor:
    """The array, which must be of one of these types. Raises BadStepError at `key`."""
    if tensor.dtype in dtypes:
        return tensor
    message = f"the step works on {listed(dtypes, 'or')}; {quoted(tensor.name)} is {tensor}"
    raise BadStepError(message, key, help="name another array, or correct the model's signature")


def at_least(tensor: Tensor, dimensions: int, key: str = "input") -> Tensor:
    """The array, which must have so many dimensions. Raises BadStepError at `key`."""
    if len(tensor.shape) >= dimensions:
        return tensor
    message = f"the step needs {dimensions} dimensions or more; {quoted(tensor.name)} is {tensor}"
    raise BadStepError(message, key, help="name another array, or correct the model's signature")


def plain(tensor: Tensor, **changes: Any) -> Tensor:
    """The array, changed, without what was true of it as it was: its range, columns, image and labels."""
    kept: dict[str, Any] = {"name": tensor.name, "dtype": tensor.dtype, "shape": tensor.shape}
    return Tensor(**{**kept, **changes})


def replaced(arrays: Arrays, old: str, *new: Tensor, keep: bool = False) -> Arrays:
    """The arrays with others in place of one; `keep` leaves that one, too. Raises BadStepError if a name is taken."""
    rest = [tensor for name, tensor in arrays.items() if keep or name != old]
    for tensor in new:
        if tensor.name in {other.name for other in rest if not (keep and other.name == old == tensor.name)}:
            message = f"there is an array {quoted(tensor.name)} already"
            raise BadStepError(message, help="give what this step makes another name")
    made = {tensor.name for tensor in new}
    return {tensor.name: tensor for tensor in (*(t for t in rest if t.name not in made), *new)}
