"""What a stream can show, as a plan's text needs to know it."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

from mlspec.commands import _colour
from mlspec.reporting.plan.look import USUAL, Look, look


def look_of(stream: TextIO, usual: int = USUAL) -> Look:
    """The look for this stream: as wide as the terminal; where there is none as COLUMNS says, else of the usual width,
    and nothing is cut.
    """
    terminal = stream.isatty()
    columns = shutil.get_terminal_size((usual, 24)).columns if terminal else _columns() or usual
    return look(colour=_colour(stream), encoding=stream.encoding, columns=columns, whole=not terminal)


def _columns() -> int:
    """What the environment says; 0 if it says nothing of use."""
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isascii() and told.isdecimal() and len(told) < 6 else 0
