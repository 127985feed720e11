"""`sysctl` as text: `key: value`, a line each; any subset, in any order."""

from __future__ import annotations

import re

from mlspec.hardware.numbers import MOST_CORES, macos_version, model_identifier, size_bytes, whole
from mlspec.hardware.reading import Reading, apple_chip

NAMES = (
    "machdep.cpu.brand_string",
    "hw.model",
    "hw.memsize",
    "hw.ncpu",
    "hw.physicalcpu",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "hw.perflevel2.physicalcpu",
    "kern.osproductversion",
    "iogpu.wired_limit_mb",
)
"""All that is read of it; the host's name and the rest are passed over."""

_LINE = re.compile(r"\s*([A-Za-z0-9_.]{1,100})\s*(?::|=)\s*(.{0,200}?)\s*", re.ASCII)
_MOST_MB = 2**26


def parse_sysctl(text: str) -> Reading:
    """What `sysctl` says of a Mac.

    Raises:
        UnreadableError: it is no Mac with Apple Silicon.
    """
    values = _values(text)
    levels = [whole(values.get(f"hw.perflevel{level}.physicalcpu"), MOST_CORES, 0) for level in range(3)]
    return Reading(
        chip=apple_chip(values.get("machdep.cpu.brand_string")),
        model=model_identifier(values.get("hw.model")),
        memory_bytes=size_bytes(values.get("hw.memsize")),
        cpus=whole(values.get("hw.physicalcpu"), MOST_CORES) or whole(values.get("hw.ncpu"), MOST_CORES),
        cpu_cores=tuple(count for count in levels if count),
        macos=macos_version(values.get("kern.osproductversion")),
        wired_limit_mb=whole(values.get("iogpu.wired_limit_mb"), _MOST_MB),
    )


def _values(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match and match[1] in NAMES:
            found.setdefault(match[1], match[2])
    return found
