"""Recorded output of a Mac's commands: any of three files, together one reading."""

from __future__ import annotations

from collections.abc import Mapping

from mlspec.hardware.errors import UnreadableError
from mlspec.hardware.parse_mlx_device_info import parse_mlx_device_info
from mlspec.hardware.parse_sysctl import parse_sysctl
from mlspec.hardware.parse_system_profiler import parse_system_profiler
from mlspec.hardware.reading import Reading, combined, matching

SYSCTL, SYSTEM_PROFILER, MLX = "sysctl.txt", "system_profiler.json", "mlx_device_info.json"
FILES = (SYSCTL, SYSTEM_PROFILER, MLX)


def read_recorded(texts: Mapping[str, str]) -> Reading:
    """What the recorded files say, by their names; none has to be there.

    Raises:
        UnreadableError: one of them can't be taken, or they are of different computers.
    """
    said: dict[str, Reading] = {}
    if SYSCTL in texts:
        said[SYSCTL] = parse_sysctl(texts[SYSCTL])
    if SYSTEM_PROFILER in texts:
        said[SYSTEM_PROFILER] = parse_system_profiler(texts[SYSTEM_PROFILER])
    if MLX in texts:
        device = _device(parse_mlx_device_info(texts[MLX]), combined(said))
        said |= {MLX: device} if device else {}
    return combined(said)


def _device(devices: tuple[Reading, ...], known: Reading) -> Reading | None:
    """The device of this computer, of those that MLX lists."""
    fitting = matching(devices, known)
    if len(fitting) > 1:
        names = ", ".join(device.chip or "an unnamed one" for device in fitting)
        raise UnreadableError(f"{MLX} holds several computers: {names}", "keep one of them")
    if devices and not fitting:
        return devices[0]  # which `combined` refuses, with what is different
    return fitting[0] if fitting else None
