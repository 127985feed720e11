"""The chat template of the spec."""

from __future__ import annotations

from pathlib import Path

from mlspec_runtime.errors import ServiceError


def chat_template(bundle: Path, path: str | None) -> str | None:
    """The text of the template at this path below the bundle; None without one. Raises ServiceError (503) if it can't
    be read.
    """
    if path is None:
        return None
    try:
        return (bundle / path).read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        message = f"the chat template {path} can't be read ({type(problem).__name__}); build the bundle again"
        raise ServiceError("bad_chat_template", message, 503) from problem
