"""The models of specs/digits-onnx.yaml and specs/flowers.yaml: `python tests/frameworks/example_models.py OUT`.

OUT is `specs/models`: the digits' network is that of specs/digits.yaml, exported.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import onnx
import skops.io
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlspec_runtime.predict.user_code import user_class

DEFLATED = 8


def without_traces(path: Path) -> None:
    """Take out what the exporter notes of each node: stack traces, with the paths of whoever exported."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    onnx.save(model, path)


def digits(source: Path, out: Path) -> None:
    """The network of the folder `source`, as digits.onnx."""
    net = user_class(source / "net.py", "Net")(classes=10)
    net.load_state_dict(load_file(source / "digits.safetensors"))
    out.mkdir(exist_ok=True)
    with warnings.catch_warnings():  # torch's exporter warns of torch's own parts
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.zeros(2, 1, 8, 8),),
            out / "digits.onnx",
            input_names=["image"],
            output_names=["scores"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    without_traces(out / "digits.onnx")


def flowers(out: Path) -> None:
    """Fisher's irises: a scaler and a logistic regression, as flowers.skops."""
    rows, species = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, species)
    out.mkdir(exist_ok=True)
    skops.io.dump(model, out / "flowers.skops", compression=DEFLATED)


def main(models: Path) -> None:
    """Write both."""
    digits(models / "digits", models / "digits-onnx")
    flowers(models / "flowers")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
