"""What the tests of frameworks share: a network that was trained for them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from frameworks.digits import Digits

# Their environment is one of their own (docs/development.md); asked for by their marker elsewhere, there are none.
collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """The network of digits, in each format of torch's and in ONNX, and what it makes of images that were held back."""
    from frameworks.digits import trained  # torch: only where a test asks for it

    return trained(tmp_path_factory.mktemp("digits"))
