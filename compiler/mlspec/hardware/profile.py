"""A machine's profile: the file that `mlspec machine capture` writes, with what it may hold and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.hardware.chips import chip_name
from mlspec.hardware.errors import UnknownMachineError
from mlspec.suggest import did_you_mean, listed

API_VERSION = "mlspec/v1"
KIND = "Machine"
MOST_BYTES = 2**56
MODEL = r"[A-Za-z]{1,30}\d{1,4},\d{1,4}"
MACOS = r"\d{1,3}(?:\.\d{1,3}){0,2}"

_HEAD = f"""\
# A computer, for the targets of specs: machine: {{profile: PATH}}
# Written by `mlspec machine capture`; it holds no serial number and no name.
apiVersion: {API_VERSION}
kind: {KIND}
"""


def _number(most: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _chip(value: Any) -> bool:
    return isinstance(value, str) and chip_name(value) is not None


def _counts(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 8 and all(map(_whole(1, 4096), value))


FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "chip": (_chip, "an Apple chip's name, as in Apple M2 Max"),
    "memory_gb": (_number(65536), "a number of GB"),
    "gpu_cores": (_whole(1, 1024), "a whole number"),
    "cpus": (_whole(1, 4096), "a whole number"),
    "cpu_cores": (_counts, "a list of whole numbers, as in [8, 4]"),
    "model": (_text(MODEL), "a model identifier, as in Mac14,13"),
    "macos": (_text(MACOS), 'a version in quotes, as in "26.1"'),
    "working_set_bytes": (_whole(1, MOST_BYTES), "a whole number of bytes"),
    "max_buffer_bytes": (_whole(1, MOST_BYTES), "a whole number of bytes"),
    "wired_limit_mb": (_whole(0, 2**26), "a whole number of megabytes"),
    "gpu_memory_gb": (_number(65536), "a number of GB"),
}
"""What a profile may hold, in the order in which it is written."""


def checked(data: object, path: str) -> dict[str, Any]:
    """The fields of a profile that was read from `path`.

    Raises:
        UnknownMachineError: it is no profile, or one of its values can't be.
    """
    if not isinstance(data, Mapping) or data.get("kind") != KIND:
        help = f"a profile says kind: {KIND}; mlspec machine capture writes one"
        raise UnknownMachineError(f"{visible(path)} is no profile of a machine", help)
    if data.get("apiVersion") != API_VERSION:
        raise UnknownMachineError(f"{visible(path)} has another apiVersion", f"write apiVersion: {API_VERSION}")
    found = {key: data[key] for key in data if key not in ("apiVersion", "kind") and not str(key).startswith("x-")}
    for key, value in found.items():
        _check(key, value, path)
    return found


def text_of(fields: Mapping[str, Any]) -> str:
    """The profile's file."""
    lines = [f"{key}: {json.dumps(fields[key])}\n" for key in FIELDS if fields.get(key) is not None]
    return _HEAD + "".join(lines)


def _check(key: object, value: Any, path: str) -> None:
    if key not in FIELDS:
        help = did_you_mean(key, FIELDS) or f"it has {listed(FIELDS)}"
        raise UnknownMachineError(f"{visible(path)}: {quoted(key)} is not a key of a profile", help)
    fits, wanted = FIELDS[str(key)]
    if not fits(value):
        raise UnknownMachineError(f"{visible(path)}: {key} can't be {quoted(value)}", f"it is {wanted}")
