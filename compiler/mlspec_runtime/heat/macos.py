"""Heat and power of a Mac, from the tools that macOS brings; none needs root.

`NSProcessInfo.thermalState` is no source: it has fewer levels and is reported to be stale on several versions.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable

from mlspec_runtime.heat.reading import LEVELS, Reading

LOG = logging.getLogger("mlspec.heat")
THERMAL_KEY = "com.apple.system.thermalpressurelevel"
TOOL_TIMEOUT_S = 3.0
HEAT_COMMAND = ("notifyutil", "-g", THERMAL_KEY)
SETTINGS_COMMAND = ("pmset", "-g")
BATTERY_COMMAND = ("pmset", "-g", "batt")

Run = Callable[[tuple[str, ...]], str | None]
"""A command's output; None if it gave none."""

_LEVEL = re.compile(rf"^\s*{re.escape(THERMAL_KEY)}\s+(\d{{1,19}})\s*$", re.M)
# Macs with three modes have `powermode` instead: 0 automatic, 1 low power, 2 high power.
_LOW_POWER = re.compile(r"^\s*(?:lowpowermode|powermode)\s+(\d{1,9})\b", re.M)
_SOURCE = re.compile(r"^\s*Now drawing from '([^'\n]*)'", re.M)


class MacReader:
    """Three small child processes a reading, some 11 ms each."""

    def __init__(self, run: Run | None = None) -> None:
        self._run = run or Tools().output

    def read(self) -> Reading:
        return Reading(
            level=thermal_level(self._run(HEAT_COMMAND) or ""),
            low_power=low_power(self._run(SETTINGS_COMMAND) or ""),
            on_battery=on_battery(self._run(BATTERY_COMMAND) or ""),
        )


class Tools:
    """Runs commands within a time limit. What keeps one from answering is told once, not at each reading."""

    def __init__(self) -> None:
        self._told: set[tuple[str, ...]] = set()

    def output(self, command: tuple[str, ...]) -> str | None:
        """What the command printed; None if it is missing, fails or takes too long."""
        try:
            done = subprocess.run(  # noqa: S603 - fixed commands
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TOOL_TIMEOUT_S, check=True
            )
        except (OSError, subprocess.SubprocessError) as problem:
            self._tell(command, problem)
            return None
        return done.stdout.decode(errors="replace")

    def _tell(self, command: tuple[str, ...], problem: Exception) -> None:
        if command not in self._told:
            self._told.add(command)
            LOG.warning("%s gave no answer: %s", " ".join(command), problem)


def thermal_level(output: str) -> int | None:
    """The level in `notifyutil -g`'s output; one beyond those known is the highest."""
    found = _LEVEL.search(output)
    return None if found is None else min(int(found[1]), len(LEVELS) - 1)


def low_power(output: str) -> bool | None:
    """Whether `pmset -g` shows the low-power mode; None on Macs without one."""
    found = _LOW_POWER.search(output)
    return None if found is None else int(found[1]) == 1


def on_battery(output: str) -> bool | None:
    """Whether `pmset -g batt` names a battery, the computer's or a UPS's, as the source."""
    found = _SOURCE.search(output)
    return None if found is None else found[1] in ("Battery Power", "UPS Power")
