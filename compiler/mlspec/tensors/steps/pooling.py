"""Steps from a vector for each token to one for each row."""

from __future__ import annotations

from typing import Any, Literal

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.tensors.steps.base import (
    FLOATS,
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

USUAL_MASK = "attention_mask"


class _Pooling(Frozen):
    input: str
    output: str | None = None
    keep: bool = False

    def _pooled(self, available: Arrays, settings: dict[str, Any]) -> Applied:
        tokens = at_least(numbers(found(self.input, available, "input"), FLOATS), 2)
        shape = (tokens.shape[0], *tokens.shape[2:])
        made = plain(tokens, name=self.output or self.input, shape=shape)
        settings |= {"input": self.input, "output": made.name, "keep": self.keep}
        return Applied(replaced(available, self.input, made, keep=self.keep), settings)


class MeanPool(_Pooling):
    """The mean over the second dimension, of those entries for which `mask`, one of the model's inputs, isn't 0.

    `mask` None: `attention_mask`, where the model has it.
    """

    step: Literal["mean_pool"]
    mask: str | None = None

    def given(self, available: Arrays, around: Around) -> Applied:
        settings: dict[str, Any] = {"step": self.step}
        name = self.mask or (USUAL_MASK if USUAL_MASK in around.model_inputs else None)
        if name is not None:
            mask = found(name, around.model_inputs, "mask", "input of the model")
            self._check_mask(mask, found(self.input, available, "input"))
            settings["mask"] = name
        return self._pooled(available, settings)

    def _check_mask(self, mask: Tensor, tokens: Tensor) -> None:
        sizes = zip(mask.shape, tokens.shape, strict=False)
        if len(mask.shape) != 2 or any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in sizes):
            message = f"the mask {quoted(mask.name)} is {mask}; that of {tokens} begins as that does"
            raise BadStepError(message, "mask", help="name the input that tells tokens from padding")


class FirstToken(_Pooling):
    """The first entry of the second dimension: what models with a classifying token are trained for."""

    step: Literal["first_token"]

    def given(self, available: Arrays, around: Around) -> Applied:
        return self._pooled(available, {"step": self.step})
