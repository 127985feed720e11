"""Steps that compute on numbers: normalize and transpose before the model, softmax and the like after it."""

from __future__ import annotations

from typing import Literal

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Dtype, Tensor
from mlspec.tensors.steps.base import (
    FLOATS,
    INTEGERS,
    Applied,
    Around,
    Arrays,
    BadStepError,
    at_least,
    found,
    numbers,
    plain,
    replaced,
)


class Normalize(Frozen):
    """`(x / divide_by - mean) / std`; `mean` and `std` have one number, or one for each entry of dimension `axis`.

    `dtype` is what requests give, None: as the model's.
    """

    step: Literal["normalize"]
    input: str
    dtype: Dtype | None = None
    divide_by: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    axis: int = -1

    def taken(self, wanted: Arrays, around: Around) -> Applied:
        out = numbers(found(self.input, wanted, "input"), FLOATS)
        if self.dtype == "string":
            raise BadStepError("texts have no mean", "dtype", help="give a type of numbers")
        self._check_counts(out)
        settings = {**_named(self), "dtype": out.dtype, "rank": len(out.shape)}
        taken = plain(out, dtype=self.dtype or out.dtype)
        return Applied(replaced(wanted, self.input, taken), settings)

    def _check_counts(self, out: Tensor) -> None:
        if not -len(out.shape) <= self.axis < max(1, len(out.shape)):
            help = f"it is {-len(out.shape)} to {len(out.shape) - 1}"
            raise BadStepError(f"{quoted(self.input)} is {out}: it has no dimension {self.axis}", "axis", help=help)
        size = out.shape[self.axis] if out.shape else 1
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) > 1 and len(values) != size:
                message = f"{quoted(self.input)} is {out}: dimension {self.axis} is {size}, of {key} there are "
                raise BadStepError(message + str(len(values)), key, help="give one number, or one for each entry")
        if 0 in self.std:
            raise BadStepError("std has a 0, and is divided by", "std", help="give numbers above 0")


class Transpose(Frozen):
    """Dimension `order[i]` of the request's array becomes the model's dimension `i`, as `numpy.transpose` counts."""

    step: Literal["transpose"]
    input: str
    order: tuple[int, ...]

    def taken(self, wanted: Arrays, around: Around) -> Applied:
        out = found(self.input, wanted, "input")
        if sorted(self.order) != list(range(len(out.shape))):
            help = f"give each of 0 to {len(out.shape) - 1} once"
            raise BadStepError(f"this is no order of {out}'s dimensions", "order", help=help)
        shape = tuple(out.shape[self.order.index(at)] for at in range(len(self.order)))
        return Applied(replaced(wanted, self.input, plain(out, shape=shape)), _named(self))


class _Scores(Frozen):
    """A step over the last dimension of one array of floats; its own name is `output`, or the array's."""

    input: str
    output: str | None = None
    keep: bool = False

    def _scores(self, available: Arrays, dimensions: int = 1) -> Tensor:
        return at_least(numbers(found(self.input, available, "input"), FLOATS), dimensions)

    def _applied(self, available: Arrays, made: Tensor) -> Applied:
        settings = {**_named(self), "output": made.name}
        return Applied(replaced(available, self.input, made, keep=self.keep), settings)


class Softmax(_Scores):
    step: Literal["softmax"]

    def given(self, available: Arrays, around: Around) -> Applied:
        scores = self._scores(available)
        made = plain(scores, name=self.output or self.input, labels=scores.labels)
        return self._applied(available, made)


class Sigmoid(_Scores):
    step: Literal["sigmoid"]

    def given(self, available: Arrays, around: Around) -> Applied:
        scores = self._scores(available, 0)
        return self._applied(available, plain(scores, name=self.output or self.input, labels=scores.labels))


class L2Normalize(_Scores):
    step: Literal["l2_normalize"]

    def given(self, available: Arrays, around: Around) -> Applied:
        return self._applied(available, plain(self._scores(available), name=self.output or self.input))


class Argmax(_Scores):
    """The index of the largest score in the last dimension; `labels` say what the indexes stand for."""

    step: Literal["argmax"]
    labels: tuple[str, ...] = ()

    def given(self, available: Arrays, around: Around) -> Applied:
        scores = self._scores(available)
        labels = labels_of(self.labels, scores)
        shape, name = scores.shape[:-1], self.output or self.input
        made = plain(scores, name=name, dtype="int64", shape=shape, labels=labels)
        return self._applied(available, made)


class TopK(Frozen):
    """The `k` largest scores of the last dimension, and their indexes."""

    step: Literal["top_k"]
    input: str
    k: int
    scores: str = "scores"
    classes: str = "classes"
    labels: tuple[str, ...] = ()
    keep: bool = False

    def given(self, available: Arrays, around: Around) -> Applied:
        scores = at_least(numbers(found(self.input, available, "input"), FLOATS), 1)
        of = scores.shape[-1]
        if isinstance(of, int) and self.k > of:
            raise BadStepError(f"{quoted(self.input)} is {scores}: it has no {self.k}", "k", help=f"give {of} or less")
        shape = (*scores.shape[:-1], self.k)
        best = plain(scores, name=self.scores, shape=shape)
        indexes = plain(scores, name=self.classes, dtype="int64", shape=shape, labels=labels_of(self.labels, scores))
        return Applied(replaced(available, self.input, best, indexes, keep=self.keep), _named(self))


class Labels(Frozen):
    """Indexes to texts: `labels`, or those that the array has."""

    step: Literal["labels"]
    input: str
    output: str | None = None
    labels: tuple[str, ...] = ()
    keep: bool = False

    def given(self, available: Arrays, around: Around) -> Applied:
        indexes = numbers(found(self.input, available, "input"), INTEGERS)
        labels = self.labels or indexes.labels
        if not labels:
            message = f"nothing says what the numbers of {quoted(self.input)} stand for"
            raise BadStepError(message, "input", help="give labels: [...]")
        made = plain(indexes, name=self.output or self.input, dtype="string")
        settings = {**_named(self), "output": made.name, "labels": list(labels)}
        return Applied(replaced(available, self.input, made, keep=self.keep), settings)


def labels_of(given: tuple[str, ...], scores: Tensor) -> tuple[str, ...]:
    """The labels of a step, or else those of its scores. Raises BadStepError if they aren't as many."""
    if given and isinstance(scores.shape[-1], int) and len(given) != scores.shape[-1]:
        message = f"there are {len(given)} labels for the {scores.shape[-1]} scores of {quoted(scores.name)}"
        raise BadStepError(message, "labels", help="give one for each score")
    return given or scores.labels


def _named(step: Frozen) -> dict[str, object]:
    """A step as its runtime reads it, without what isn't set."""
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in dict(step).items()}
    return {key: value for key, value in given.items() if value is not None and value != []}
