"""Whatever stands where a Mac's output should: a profile comes of it, or an error of our own. Never anything else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.machines import mac
from mlspec.hardware.profile import checked
from mlspec.hardware.reading import profile_of
from mlspec.hardware.recorded import MLX, SYSCTL, SYSTEM_PROFILER, read_recorded
from mlspec.model.spec import MachineSpec

SAMPLES = Path(__file__).parent / "samples"
TEXTS: dict[str, list[str]] = {
    SYSCTL: [file.read_text(encoding="utf-8") for file in sorted(SAMPLES.glob("sysctl*"))],
    SYSTEM_PROFILER: [
        json.dumps(each) for each in json.loads((SAMPLES / "system_profiler.json").read_text(encoding="utf-8")).values()
    ],
    MLX: [json.dumps(each) for each in json.loads((SAMPLES / "mlx_device_info.json").read_text(encoding="utf-8"))],
}
MACS: list[dict[str, str]] = [
    {SYSCTL: TEXTS[SYSCTL][2]},
    {SYSTEM_PROFILER: TEXTS[SYSTEM_PROFILER][0]},
    {SYSTEM_PROFILER: TEXTS[SYSTEM_PROFILER][1], MLX: TEXTS[MLX][1]},
    {SYSTEM_PROFILER: TEXTS[SYSTEM_PROFILER][2], SYSCTL: "machdep.cpu.brand_string: Apple M4 Max\nhw.model: Mac16,5"},
    *({MLX: text} for text in TEXTS[MLX][:4]),
    *({name: text} for name, texts in TEXTS.items() for text in texts),
]
"""Recordings that belong together."""
SCRAPS = ["proc 1:2:3:4:5", "Apple M99 Hyper (Virtual)", "[[", "{}", "null", "1e999", "-1", "9" * 30, "\x00", "²"]
SCRAPS += [": ", '"', "\n", "NaN", "true", "\ud800", "\u202e", "VirtualMac2,1", "Apple M5 Ultra", "0.0.0", "GB"]
VALUES: list[Any] = [None, True, 0, -1, 2**70, 1.5, float("inf"), "", "x", [], {}, [[]], {"a": {}}, "proc 8:4:4"]


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.randrange(1, 5)):
        at, length = chance.randrange(len(text) + 1), chance.randrange(12)
        what = chance.randrange(5)
        if what == 0:
            text = text[:at]
        elif what == 1:
            text = text[:at] + text[at + length :]
        elif what == 2:
            text = text[:at] + chance.choice(SCRAPS) + text[at:]
        elif what == 3:
            text = text[:at] + "".join(chr(chance.randrange(0x300)) for _ in range(length)) + text[at + length :]
        else:
            text = changed_json(text, chance)
    return text


def changed_json(text: str, chance: random.Random) -> str:
    """Another value somewhere in it, where it is JSON still; else one line of it twice."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        lines = text.splitlines() or [""]
        return "\n".join([*lines, chance.choice(lines)])
    at, key = [data], 0
    while isinstance(inner := at[key], dict | list) and inner and chance.random() < 0.8:
        at, key = inner, chance.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
    at[key] = chance.choice(VALUES)
    return json.dumps(data)


def outcome(texts: dict[str, str]) -> str:
    """`machine`, or `refused`."""
    try:
        fields = {key: value for key, value in profile_of(read_recorded(texts)).items() if value is not None}
        whole = {"apiVersion": "mlspec/v1", "kind": "Machine", **fields}
        assert checked(whole, "p") == fields
        found = mac(MachineSpec(profile="p"), "", whole)
    except UnknownMachineError:
        return "refused"
    assert 0 < (found.machine.working_set_bytes or 0) <= found.machine.memory_bytes
    return "machine"


def run(seed: int, count: int) -> dict[str, int]:
    chance = random.Random(seed)
    outcomes = {"machine": 0, "refused": 0}
    for _ in range(count):
        recorded = chance.choice(MACS)
        outcomes[outcome({name: mutated(text, chance) for name, text in recorded.items()})] += 1
    return outcomes


def test_10_000_mutated_outputs() -> None:
    outcomes = run(4711, 10_000)
    assert min(outcomes.values()) > 1000, "the mutations are neither too mild nor too wild"


def test_each_beginning_of_each_output() -> None:
    for name, texts in TEXTS.items():
        for text in texts:
            for end in range(len(text)):
                outcome({name: text[:end]})


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_noise(name: str) -> None:
    chance = random.Random(7)
    for _ in range(500):
        noise = bytes(chance.randrange(256) for _ in range(chance.randrange(200)))
        assert outcome({name: noise.decode("utf-8", errors="replace")}) == "refused"
