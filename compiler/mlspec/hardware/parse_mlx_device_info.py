"""`mx.device_info()` as JSON: one device, or a list of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.hardware.chips import chip_name
from mlspec.hardware.errors import UnreadableError
from mlspec.hardware.numbers import macos_version, parsed_json, whole
from mlspec.hardware.profile import MOST_BYTES
from mlspec.hardware.reading import Reading

_WHAT = "the output of mx.device_info()"
_KEYS = ("device_name", "architecture", "memory_size", "max_recommended_working_set_size")


def parse_mlx_device_info(text: str) -> tuple[Reading, ...]:
    """What MLX says of its devices: those with Metal.

    Raises:
        UnreadableError: it is no such output.
    """
    data = parsed_json(text, _WHAT)
    devices = data if isinstance(data, list) else [data]
    known = [device for device in devices if isinstance(device, Mapping) and any(key in device for key in _KEYS)]
    if devices and not known:
        help = "record it with: python -c 'import json, mlx.core as mx; print(json.dumps(mx.device_info()))'"
        raise UnreadableError(f"{_WHAT} has none of the keys that are looked for", help)
    return tuple(_reading(device) for device in known if _has_metal(device))


def _reading(device: Mapping[str, Any]) -> Reading:
    name = device.get("device_name")
    chip = chip_name(name) if isinstance(name, str) else None
    return Reading(
        chip=chip.text if chip else None,
        memory_bytes=whole(device.get("memory_size"), MOST_BYTES),
        macos=macos_version(device.get("os")),
        working_set_bytes=whole(device.get("max_recommended_working_set_size"), MOST_BYTES),
        max_buffer_bytes=whole(device.get("max_buffer_length"), MOST_BYTES),
    )


def _has_metal(device: Mapping[str, Any]) -> bool:
    """A processor is a device, too: it has an architecture and a name only."""
    return str(device.get("device_name", "")).startswith("Apple") or "max_recommended_working_set_size" in device
