"""Write the types that skops makes without being told to trust them: `python tests/tools/skops_types.py [--check]`.

Run it where the pinned skops and scikit-learn are installed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
from scipy.sparse import sparray, spmatrix
from skops.io import _sklearn, _trusted_types
from skops.io._utils import get_type_name, get_type_paths

FILE = Path(__file__).resolve().parents[2] / "compiler/mlspec/runners/sklearn/data/trusted_types.txt"
_OF_LOADERS = (dict, OrderedDict, defaultdict, list, set, tuple, bytes, bytearray, slice)
_OF_NUMPY = (np.ndarray, np.ma.MaskedArray, np.random.RandomState, np.random.Generator)


def names() -> list[str]:
    """All of them, of whatever kind of loader (skops/io/_general.py, _numpy.py, _scipy.py, _sklearn.py)."""
    lists = (getattr(_trusted_types, name) for name in dir(_trusted_types) if name.endswith("_NAMES"))
    losses = [get_type_name(loss) for loss in _sklearn.ALLOWED_LOSSES]
    own = get_type_paths([*_OF_LOADERS, *_OF_NUMPY, spmatrix, sparray])
    return sorted({*(name for found in lists for name in found), *losses, *own})


def main() -> int:
    text = "".join(f"{name}\n" for name in names())
    if "--check" in sys.argv:
        return int(not FILE.exists() or FILE.read_text(encoding="utf-8") != text)
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
