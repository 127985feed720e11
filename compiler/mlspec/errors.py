"""What a command tells a user when it can't do what was asked, where no place in a spec is to blame."""

from __future__ import annotations


class CommandError(Exception):
    """A user's mistake or a trouble of the surroundings: `code` names its page, `help` is the remedy.

    `failed`: nothing was wrong with what was asked, carrying it out failed.
    """

    def __init__(self, code: str, message: str, help: str = "", *, failed: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help
        self.failed = failed

    def text(self) -> str:
        """The error as a terminal shows it, with the newline."""
        help = f"  help: {self.help}\n" if self.help else ""
        return f"error[{self.code}]: {self.message}\n{help}"
