"""What is wrong with the naming or the recorded output of a computer."""

from __future__ import annotations


class UnknownMachineError(ValueError):
    """A computer can't be made out: the message says what of it, `help` what to do."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.help = help


class UnreadableError(UnknownMachineError):
    """What a command printed can't be taken: it is no output of that command, or of no Mac with Apple Silicon."""
