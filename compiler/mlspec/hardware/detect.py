"""This computer: what a Mac's own commands say, or what Linux shows of itself. Only commands look at it."""

from __future__ import annotations

import sys

from mlspec.hardware.asking import Ask, ask
from mlspec.hardware.errors import UnknownMachineError
from mlspec.hardware.fields import Fields, with_row
from mlspec.hardware.linux import linux_fields
from mlspec.hardware.machines import Found, linux_of, mac_of
from mlspec.hardware.parse_sysctl import NAMES
from mlspec.hardware.reading import Reading, profile_of
from mlspec.hardware.recorded import MLX, SYSCTL, SYSTEM_PROFILER, read_recorded

# Their places are fixed on macOS, whatever PATH says.
_SYSCTL = ("/usr/sbin/sysctl", *NAMES)
_SYSTEM_PROFILER = ("/usr/sbin/system_profiler", "-json", "SPHardwareDataType", "SPDisplaysDataType")
# In a process of its own: an mlx that is broken ends that one. -P: a folder `mlx` beside us isn't the library.
_MLX = (sys.executable, "-P", "-c", "import json, mlx.core as mx; print(json.dumps(mx.device_info(), default=str))")
_SOURCES = {"gpu_cores": "system_profiler", "working_set_bytes": "mx.device_info", "max_buffer_bytes": "mx.device_info"}
"""Which command has what `sysctl` doesn't."""


def this_computer() -> Found:
    """The computer that this process runs on.

    Raises:
        UnknownMachineError: it can't be made out: an Intel Mac, another system than macOS and Linux.
    """
    if sys.platform == "darwin":
        return mac_of(with_row(mac_fields(this_mac())))
    if sys.platform == "linux":
        return linux_of(linux_fields(ask))
    raise UnknownMachineError(f"this computer runs {sys.platform}", "name the machine that the service will run on")


def this_mac(ask: Ask = ask) -> Reading:
    """What this Mac's commands say of it; what doesn't answer is left out.

    Raises:
        UnreadableError: it has no Apple Silicon, or this Python runs under Rosetta.
    """
    # `sysctl` fails where one name is unknown, and prints the others all the same.
    texts = {SYSCTL: ask(_SYSCTL, 10.0).output}
    for name, command, timeout_s in ((SYSTEM_PROFILER, _SYSTEM_PROFILER, 30.0), (MLX, _MLX, 60.0)):
        answer = ask(command, timeout_s)
        if answer.fine:
            texts[name] = answer.output
    return read_recorded(texts)


def mac_fields(reading: Reading) -> Fields:
    """What is known of this Mac, with the command that says so."""
    profile = profile_of(reading)
    return {
        name: (value, f"here:{_SOURCES.get(name, 'sysctl')}") for name, value in profile.items() if value is not None
    }
