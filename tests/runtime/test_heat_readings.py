"""What the tools of macOS print, and what is made of it."""

from __future__ import annotations

import random
import sys

import pytest

from mlspec_runtime.heat import macos
from mlspec_runtime.heat.macos import MacReader, Tools, low_power, on_battery, thermal_level
from mlspec_runtime.heat.reading import LEVELS, NoReader, Reading

HEAT = "com.apple.system.thermalpressurelevel {}\n"
SETTINGS = """\
System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                1 (sleep prevented by powerd, sharingd)
 hibernatemode        3
 ttyskeepawake        1
 displaysleep         10
 tcpkeepalive         1
 {}
 womp                 1
"""
ON_MAINS = """\
Now drawing from 'AC Power'
 -InternalBattery-0 (id=22806627)\t92%; charging; 0:44 remaining present: true
"""
ON_BATTERY = """\
Now drawing from 'Battery Power'
 -InternalBattery-0 (id=22806627)\t86%; discharging; (no estimate) present: true
"""
DESKTOP = "Now drawing from 'AC Power'\n"


@pytest.mark.parametrize(
    ("output", "level"),
    [
        *((HEAT.format(level), level) for level in range(5)),
        (HEAT.format(7), 4),
        (HEAT.format(3).replace("\n", "\r\n"), 3),
        ("com.apple.system.thermalpressurelevel\n", None),
        ("com.apple.system.thermalpressurelevel: failed, NOTIFY_STATUS_INVALID_REQUEST\n", None),
        ("com.apple.system.thermalpressurelevel.other 3\n", None),
        (HEAT.format(-1), None),
        ("3\n", None),
        ("", None),
    ],
)
def test_the_thermal_level(output: str, level: int | None) -> None:
    assert thermal_level(output) == level


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lowpowermode         1", True),
        ("lowpowermode         0", False),
        ("powermode            0", False),
        ("powermode            1", True),
        ("powermode            2", False),
        ("gpuswitch            2", None),
        ("lowpowermode", None),
    ],
)
def test_the_low_power_mode(line: str, expected: bool | None) -> None:
    assert low_power(SETTINGS.format(line)) is expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (ON_BATTERY, True),
        (ON_MAINS, False),
        (DESKTOP, False),
        (DESKTOP.replace("AC", "UPS"), True),
        ("No batteries\n", None),
        ("Now drawing from\n", None),
    ],
)
def test_the_source_of_power(output: str, expected: bool | None) -> None:
    assert on_battery(output) is expected


def test_torn_output_breaks_nothing() -> None:
    chance = random.Random(3)
    whole = HEAT.format(2) + SETTINGS.format("lowpowermode 1") + ON_BATTERY
    for _ in range(2000):
        start, end = sorted(chance.choices(range(len(whole)), k=2))
        text = list(whole[start:end])
        for place in chance.choices(range(len(text)), k=3) if text else ():
            text[place] = chance.choice("\0\t '0189\n\u0663é")
        torn = "".join(text)
        assert thermal_level(torn) in (None, *range(5))
        assert low_power(torn) in (None, True, False)
        assert on_battery(torn) in (None, True, False)


def test_a_reading_asks_three_tools() -> None:
    answers: dict[tuple[str, ...], str | None] = {
        macos.HEAT_COMMAND: HEAT.format(1),
        macos.SETTINGS_COMMAND: SETTINGS.format("lowpowermode 0"),
        macos.BATTERY_COMMAND: ON_BATTERY,
    }
    reader = MacReader(answers.get)
    assert reader.read() == Reading(level=1, low_power=False, on_battery=True)
    assert reader.read().heat == LEVELS[1]
    answers[macos.HEAT_COMMAND] = None
    assert reader.read() == Reading(level=None, low_power=False, on_battery=True)


def test_without_a_reader_nothing_is_known() -> None:
    assert NoReader().read() == Reading()
    assert Reading().heat == "unavailable"


def test_tools_that_give_no_answer_are_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(macos, "TOOL_TIMEOUT_S", 0.2)
    tools = Tools()
    commands = {
        "missing": ("mlspec-no-such-tool", "-g"),
        "fails": (sys.executable, "-c", "raise SystemExit(3)"),
        "hangs": (sys.executable, "-c", "import time; time.sleep(60)"),
    }
    for _ in range(2):
        assert [tools.output(command) for command in commands.values()] == [None, None, None]
    assert len(caplog.records) == 3
    assert "mlspec-no-such-tool" in caplog.text
    assert "exit status 3" in caplog.text
    assert "timed out" in caplog.text


def test_a_tool_that_answers(caplog: pytest.LogCaptureFixture) -> None:
    code = r"import sys; sys.stdout.buffer.write(b'a \xff b\n')"
    assert Tools().output((sys.executable, "-c", code)) == "a \ufffd b\n"
    assert not caplog.records
