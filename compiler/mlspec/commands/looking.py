"""What a stream can show, as a plan's text needs to know it."""

from __future__ import annotations

import shutil
from typing import TextIO

from mlspec.commands import _colour
from mlspec.reporting.plan.look import USUAL, Look, look


def look_of(stream: TextIO, usual: int = USUAL) -> Look:
    """The look for this stream: as wide as the terminal, of the usual width where there is none."""
    columns = shutil.get_terminal_size((usual, 24)).columns if stream.isatty() else usual
    return look(colour=_colour(stream), encoding=stream.encoding, columns=columns)
