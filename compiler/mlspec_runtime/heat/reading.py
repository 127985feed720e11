"""What is known of a computer's heat and power at one moment, and who tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

LEVELS = ("nominal", "moderate", "heavy", "trapping", "sleeping")
"""macOS's names of its thermal pressure levels, 0 to 4."""
UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class Reading:
    """`level` counts in LEVELS. None: not known."""

    level: int | None = None
    low_power: bool | None = None
    on_battery: bool | None = None

    @property
    def heat(self) -> str:
        """The level's name, or "unavailable"."""
        return UNAVAILABLE if self.level is None else LEVELS[self.level]


class Reader(Protocol):
    """Asks the computer."""

    def read(self) -> Reading:
        """What is known now; blocks for some seconds at most and raises nothing for what can't be known."""


class NoReader:
    """For computers that don't tell, such as Linux ones: nothing is known."""

    def read(self) -> Reading:
        return Reading()
