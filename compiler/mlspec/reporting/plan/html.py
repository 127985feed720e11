"""Text on its way into a page: the filter that every value of the page's template passes."""

from __future__ import annotations

import html as standard
from typing import Any

from mlspec.rendering.filters import Safe
from mlspec.reporting.words import safe


def html(value: Any) -> Safe:
    """Text or an attribute's value: no mark-up of its own, no secret, no character that does something."""
    return Safe(standard.escape(safe(str(value)), quote=True))
