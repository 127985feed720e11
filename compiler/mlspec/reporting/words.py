"""A diagnostic's words as they may be printed: no secret, no control character."""

from __future__ import annotations

from mlspec.characters import visible
from mlspec.diagnostics import Diagnostic
from mlspec.secrets import masked


def safe(text: str) -> str:
    """The text without secrets and without characters that do something to a terminal."""
    return visible(masked(text)).replace("\r", "\\r")


def on_one_line(text: str) -> str:
    """The same, with line ends and tabs as escapes."""
    return safe(text).replace("\n", "\\n").replace("\t", "\\t")


def remedy(found: Diagnostic) -> str:
    """What to do about it, for formats that have one field for that."""
    return safe(found.help or found.label or f"mlspec explain {found.code}")
