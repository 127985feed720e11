"""Steps before and after a model of tensors (`mlspec.tensors.steps` checked them as the service was built)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlspec_runtime.predict.signature import Array
from mlspec_runtime.predict.steps.argmax import Argmax
from mlspec_runtime.predict.steps.first_token import FirstToken
from mlspec_runtime.predict.steps.function import Function
from mlspec_runtime.predict.steps.l2_normalize import L2Normalize
from mlspec_runtime.predict.steps.labels import Labels
from mlspec_runtime.predict.steps.mean_pool import MeanPool
from mlspec_runtime.predict.steps.normalize import Normalize
from mlspec_runtime.predict.steps.rename import Rename
from mlspec_runtime.predict.steps.resize import Resize
from mlspec_runtime.predict.steps.sigmoid import Sigmoid
from mlspec_runtime.predict.steps.softmax import Softmax
from mlspec_runtime.predict.steps.step import Arrays, Place, Step
from mlspec_runtime.predict.steps.tokenize import Tokenize
from mlspec_runtime.predict.steps.top_k import TopK
from mlspec_runtime.predict.steps.transpose import Transpose

STEPS: Mapping[str, Callable[[Mapping[str, Any]], Step]] = {
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
"""By the names that plans use."""


class Steps:
    """All steps of one model, between what requests and answers hold and what the model takes and gives.

    `inputs` and `outputs` are the names of the model's inputs and the answer's outputs. Made cheaply; `load` reads
    files and imports. Thereafter any thread may call it.
    """

    def __init__(
        self,
        pre: Sequence[Mapping[str, Any]],
        post: Sequence[Mapping[str, Any]],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self._pre, self._post = _steps(pre), _steps(post)
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)

    @property
    def by_rows(self) -> bool:
        """Whether those after the model compute each row by itself: what a user's function does isn't known."""
        return not any(isinstance(step, Function) for step in self._post)

    def load(self, place: Place) -> None:
        """Make all steps ready. Raises ServiceError, or whatever goes wrong: the service then doesn't start."""
        for step in (*self._pre, *self._post):
            step.load(place)

    def prepare(self, inputs: Arrays) -> dict[str, Array]:
        """The model's inputs of a request's. Raises ServiceError."""
        arrays = inputs
        for step in self._pre:
            arrays = step.apply(arrays, {})
        return {name: arrays[name] for name in self._inputs}

    def after(self, outputs: Arrays, model_inputs: Arrays) -> dict[str, Array]:
        """What the answer holds, of the model's outputs for these of its inputs. Raises ServiceError."""
        arrays = outputs
        for step in self._post:
            arrays = step.apply(arrays, model_inputs)
        return {name: arrays[name] for name in self._outputs}


def _steps(settings: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    return tuple(STEPS[each["step"]](each) for each in settings)


__all__ = ["Place", "Steps"]
