"""What keeps a batch from going on, as whoever started it is told."""

from __future__ import annotations

from typing import Literal

Kind = Literal["input", "columns", "changed", "running", "taken", "write", "installed", "engine", "model"]


class BatchError(Exception):
    """`kind` is for programs, `message` for people, `help` is the remedy."""

    def __init__(self, kind: Kind, message: str, help: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.help = help


def unwritable(problem: OSError) -> BatchError:
    """The system refused to write."""
    reason = (problem.strerror or str(problem)).lower()
    message = f"can't write {problem.filename}: {reason}" if problem.filename else f"can't write: {reason}"
    return BatchError("write", message, "mend that; the same command goes on where it stopped")


def unreadable(problem: OSError, path: object) -> BatchError:
    """The system refused to read the input."""
    return BatchError("input", f"{path} can't be read: {(problem.strerror or str(problem)).lower()}")
