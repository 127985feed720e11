"""`system_profiler -json SPHardwareDataType SPDisplaysDataType`: either part may be missing, or empty."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.characters import shortened, visible
from mlspec.hardware.errors import UnreadableError
from mlspec.hardware.numbers import MOST_CORES, macos_version, model_identifier, parsed_json, size_bytes, whole
from mlspec.hardware.reading import Reading, apple_chip
from mlspec.suggest import listed

_WHAT = "the output of system_profiler"
_PARTS = ("SPHardwareDataType", "SPDisplaysDataType", "SPSoftwareDataType")
_COUNTS = re.compile(r"\s*(?:proc\s+)?(\d{1,4}(?::\d{1,4}){0,7})\s*", re.ASCII)


def parse_system_profiler(text: str) -> Reading:
    """What `system_profiler` says of a Mac.

    Raises:
        UnreadableError: it is no such output, or of no Mac with Apple Silicon.
    """
    data = parsed_json(text, _WHAT)
    if not isinstance(data, Mapping) or not any(part in data for part in _PARTS):
        raise _foreign(data)
    hardware = next(_items(data, "SPHardwareDataType"), {})
    software = next(_items(data, "SPSoftwareDataType"), {})
    apple_chip(hardware.get("cpu_type"))  # an Intel Mac has this key in the place of chip_type
    cpus, levels = cpu_counts(hardware.get("number_processors"))
    graphics_chip, gpu_cores = _graphics(data)
    return Reading(
        chip=apple_chip(hardware.get("chip_type")) or graphics_chip,
        model=model_identifier(hardware.get("machine_model")),
        memory_bytes=size_bytes(hardware.get("physical_memory")),
        cpus=cpus,
        cpu_cores=levels,
        gpu_cores=gpu_cores,
        macos=macos_version(software.get("os_version")),
    )


def cpu_counts(value: object) -> tuple[int | None, tuple[int, ...]]:
    """All cores, and those of each kind that there is: `proc 10:4:6` is 10, (4, 6); `proc 18:6:0:12` is 18, (6, 12).

    The kinds are left out where they don't add up.
    """
    match = _COUNTS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return whole(value, MOST_CORES), ()
    total, *kinds = map(int, match[1].split(":"))
    levels = tuple(count for count in kinds if count)
    return whole(total, MOST_CORES), levels if sum(levels) == total else ()


def _graphics(data: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Chip and cores of Apple's own GPU; others are passed over."""
    for item in _items(data, "SPDisplaysDataType"):
        name = item.get("sppci_model") or item.get("_name")
        cores = whole(item.get("sppci_cores"), MOST_CORES)
        if isinstance(name, str) and name.startswith("Apple"):
            return apple_chip(name), cores
    return None, None


def _items(data: Mapping[str, Any], part: str) -> Iterator[Mapping[str, Any]]:
    found = data.get(part)
    return (item for item in found if isinstance(item, Mapping)) if isinstance(found, list) else iter(())


def _foreign(data: object) -> UnreadableError:
    if isinstance(data, Mapping) and any(isinstance(v, Mapping) and set(v) & set(_PARTS) for v in data.values()):
        names = listed(shortened(visible(str(name)), 30) for name in list(data)[:6])
        return UnreadableError(f"{_WHAT} holds several computers: {names}", "keep one of them")
    help = "record it with: system_profiler -json SPHardwareDataType SPDisplaysDataType"
    return UnreadableError(f"{_WHAT} has none of the parts that are looked for", help)
