"""The arrays of the digits network as MLX wants them: `python tests/frameworks/mlx_digits.py FROM TO`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def converted(source: Path, into: Path) -> None:
    """Write PyTorch's tensors with the channels of convolutions last, as .safetensors or .npz."""
    arrays = {name: np.moveaxis(a, 1, -1).copy() if a.ndim == 4 else a for name, a in load_file(source).items()}
    if into.suffix == ".npz":
        np.savez(into, **arrays)
    else:
        save_file(arrays, into)


if __name__ == "__main__":
    converted(Path(sys.argv[1]), Path(sys.argv[2]))
