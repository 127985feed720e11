"""torch.compile with a real compiler: a minute on a busy computer."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from frameworks.test_torch import LINEAR, STATE, X, model_of

pytestmark = pytest.mark.soak


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_a_compiled_network_gives_the_same_for_any_batch(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "net.safetensors")
    model = model_of(tmp_path, LINEAR, compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        model.load({"artifacts": tmp_path})
        for rows in (1, 2, 5):
            found = model.predict({"x": np.repeat(X, rows, axis=0)})["y"]
            np.testing.assert_allclose(found, [[3.5, 7.0]] * rows, rtol=1e-6)
