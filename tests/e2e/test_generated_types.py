"""Generated Python and the library beside it, as a strict type checker sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_a_bundle_is_strictly_typed(bundle: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "service.py", "mlspec_runtime"]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
