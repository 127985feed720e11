"""A small CNN, trained on scikit-learn's handwritten digits: `trained()` takes some seconds.

`python tests/frameworks/digits.py OUT` makes the model of specs/digits.yaml again.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits

from mlspec.resources import folder as shipped
from mlspec_runtime.predict.user_code import user_class

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

HELD_BACK = 500
EPOCHS = 25
BATCH = 32
_BRIGHTEST = 16.0


@dataclass(frozen=True)
class Digits:
    """The network's files, and what it makes of 500 images that it wasn't trained on.

    `folder` has net.py (class `Net`), digits.safetensors, digits.pt (state dict), digits.pt2 (exported program; `image`
    to scores, any batch), digits.onnx, and in `external/` digits.onnx with its data in a file beside it. `images` are
    float32 [500, 1, 8, 8] in 0..1; `labels` what they show; `logits` torch's own float32 [500, 10], and `classes` the
    places of the highest: what every service must answer with.
    """

    folder: Path
    images: Floats
    labels: Integers
    logits: Floats
    classes: Integers

    @property
    def accuracy(self) -> float:
        return float((self.classes == self.labels).mean())


def trained(folder: Path | None = None) -> Digits:
    """Train the network and write its files into `folder`; without one, into one that ends with the process."""
    place = folder or Path(_OWN.name)
    shutil.copy(shipped("specs") / "models/digits/net.py", place / "net.py")
    images, labels = _images()
    held = images[:HELD_BACK]
    with _one_thread():
        net = _trained(images[HELD_BACK:], labels[HELD_BACK:], user_class(place / "net.py", "Net"))
        _save(net, place)
        with torch.inference_mode():
            logits = net(torch.from_numpy(held)).numpy()
    return Digits(place, held, labels[:HELD_BACK], logits, logits.argmax(1))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Several would wait for each other most of the time, and on a busy computer for minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_OWN = tempfile.TemporaryDirectory(prefix="digits-")


def _images() -> tuple[Floats, Integers]:
    """All 1,797, in an order of their own that never changes."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    images = (found.images / _BRIGHTEST).astype(np.float32).reshape(-1, 1, 8, 8)
    return images[order], found.target[order].astype(np.int64)


def _trained(images: Floats, labels: Integers, kind: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    net: torch.nn.Module = kind()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    given, wanted = torch.from_numpy(images), torch.from_numpy(labels)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(given)).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(given[rows]), wanted[rows]).backward()
            optimizer.step()
    return net.eval()


def _save(net: torch.nn.Module, folder: Path) -> None:
    state = {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, folder / "digits.safetensors")
    torch.save(state, folder / "digits.pt")
    (folder / "external").mkdir(exist_ok=True)
    with warnings.catch_warnings():  # torch's exporters warn of torch's own parts
        warnings.simplefilter("ignore")
        torch.export.save(_exported(net), folder / "digits.pt2")
        _save_onnx(net, folder / "digits.onnx", external=False)
        _save_onnx(net, folder / "external" / "digits.onnx", external=True)


def _exported(net: torch.nn.Module) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    return torch.export.export(net, (torch.zeros(2, 1, 8, 8),), dynamic_shapes={"image": {0: batch}})


def _save_onnx(net: torch.nn.Module, path: Path, *, external: bool) -> None:
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, 8, 8),),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        external_data=external,
        dynamo=True,
        verbose=False,
    )


def main(out: Path) -> None:
    """The example's tensors, as they lie in the repository."""
    with tempfile.TemporaryDirectory() as folder:
        made = trained(Path(folder))
        shutil.copyfile(made.folder / "digits.safetensors", out / "digits.safetensors")
    print(f"{out}: {made.accuracy:.1%} of {HELD_BACK} images that were held back")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
