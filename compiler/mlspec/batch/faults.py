"""What the process says is wrong, by the codes of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mlspec.characters import visible
from mlspec.errors import CommandError

_Make = Callable[[str, str], CommandError]
_MADE: Mapping[str, _Make] = {
    "input": lambda message, help: CommandError("batch-input", message, help),
    "columns": lambda message, help: CommandError("batch-columns", message, help),
    "changed": lambda message, help: CommandError("batch-changed", message, help),
    "running": lambda message, help: CommandError("batch-running", message, help),
    "taken": lambda message, help: CommandError("file-exists", message, help),
    "write": lambda message, help: CommandError("write-failed", message, help, failed=True),
    "installed": lambda message, help: CommandError("not-installed", message, help),
    "engine": lambda message, help: CommandError("batch-engine", message, help, failed=True),
    "model": lambda message, help: CommandError("batch-failed", message, help, failed=True),
}


def told(kind: str, message: str, help: str) -> CommandError:
    """The fault as the command line tells it."""
    return _MADE[kind](visible(message), visible(help))


class EndedError(CommandError):
    """The process ended without a word."""


def ended(code: int, rows: tuple[int, int] | None = None) -> EndedError:
    """The process ended without a word, while it computed these rows (from the first to before the end)."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended by itself, exit code {code}"
    help = "what is done is kept: the same command goes on from there"
    if rows is not None:
        how += f", at row {rows[0]:,}" if rows[1] - rows[0] == 1 else f", at rows {rows[0]:,} to {rows[1] - 1:,}"
        help += ", computes these rows one by one, and leaves those out that end the process"
    return EndedError("batch-failed", f"the process that computes {how}", help, failed=True)
