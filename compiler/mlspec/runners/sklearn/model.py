"""The `model` block of a model of scikit-learn, and the rules that a schema can't state."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.model.spec import Source
from mlspec.requirements import package
from mlspec.runners import Faults
from mlspec.suggest import did_you_mean, listed

Method = Literal["predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform"]
METHODS: dict[str, Method] = {
    "predict_proba": "predict_proba",
    "predict_log_proba": "predict_log_proba",
    "decision_function": "decision_function",
    "score_samples": "score_samples",
    "transform": "transform",
    "probabilities": "predict_proba",
    "scores": "decision_function",
    "transformed": "transform",
    "embedding": "transform",
}
"""What gives an output of this name; `predict` gives all others."""


class SklearnModel(Frozen):
    """`file` is that in `artifacts`, None the only one there; `trusted_types` may be made of it beside those that skops
    knows; `methods` says by an output's name which method gives it.
    """

    runner: str
    task: Literal["predict", "embed"] = "predict"
    artifacts: Source
    file: str | None = None
    trusted_types: tuple[str, ...] = ()
    methods: dict[str, Method] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def method(self, output: str) -> Method:
        """The method that gives an output."""
        return self.methods.get(output) or METHODS.get(output, "predict")

    @property
    def as_table(self) -> bool:
        """Whether the model is given a DataFrame: columns that have names."""
        return "pandas" in map(package, self.requirements)


def check_model(model: SklearnModel, faults: Faults) -> None:
    """That methods are of outputs, that several inputs are columns, and that no file is named twice."""
    names = [tensor.name for tensor in model.outputs]
    for name in model.methods:
        if name not in names:
            help = did_you_mean(name, names) or f"it has {listed(map(quoted, names))}"
            faults.error("unknown-key", f"the model has no output {quoted(name)}", ("methods", name), help=help)
    for path, count in Counter(model.files).items():
        if count > 1:
            pointer = ("files", len(model.files) - 1 - model.files[::-1].index(path))
            faults.error("duplicate-name", f"the file {quoted(path)} is named twice", pointer, help="remove one")
    if len(model.inputs) > 1:
        _check_columns(model, faults)


def _check_columns(model: SklearnModel, faults: Faults) -> None:
    """Several inputs make one table, which needs a name and a kind for each column."""
    for index, tensor in enumerate(model.inputs):
        if len(tensor.shape) != 1:
            message = f"{quoted(tensor.name)} is {tensor}; each of several inputs is a column of a table"
            faults.error("bad-value", message, ("inputs", index, "shape"), help="write shape: [batch]")
    if not model.as_table:
        message = "several inputs are the columns of a table, for which pandas is needed"
        help = "add it to requirements, as in pandas==2.3.3, or declare one input [batch, columns]"
        faults.error("bad-value", message, ("inputs",), help=help)
