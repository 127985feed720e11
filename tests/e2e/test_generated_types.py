"""Generated Python and the library beside it, as a strict type checker sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


# What only other services import isn't installed here, and BentoML's newer half has no types.
OF_OTHERS = ("--disable-error-code", "import-not-found", "--disable-error-code", "import-untyped")


def test_a_bundle_is_strictly_typed(bundle: Path) -> None:
    options = ["--strict", "--no-incremental", *OF_OTHERS]
    command = [sys.executable, "-m", "mypy", *options, "service.py", "mlspec_runtime"]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
