"""How much memory Metal lets a process keep resident, by the rule of memory and macOS, or as it was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlspec.hardware.tables import table

_PAGE_BYTES = 16 * 1024
_BUFFER_SHARE = 0.75
"""`max_buffer_length` is this part of the default working set, whatever `iogpu.wired_limit_mb` says."""
_NEAR = 0.01


def by_rule(memory_bytes: int, macos: str | None) -> tuple[int, str]:
    """The default working set in bytes, and the row it came from. An unknown macOS gets the least."""
    rule_name = _rule(macos)
    ranges = {name: row for name, row in table("working_set")[rule_name].items() if isinstance(row, Mapping)}
    fitting = [name for name, row in ranges.items() if row["from_gb"] * 2**30 <= memory_bytes]
    name = max(fitting, key=lambda each: ranges[each]["from_gb"])
    return _bytes(memory_bytes, ranges[name]), f"data:working_set/{rule_name}/{name}"


def default_of(max_buffer_bytes: int) -> int:
    """The default working set in bytes, by the longest buffer that Metal allows."""
    return int(max_buffer_bytes / _BUFFER_SHARE)


def is_overridden(working_set_bytes: int, max_buffer_bytes: int) -> bool:
    """Whether somebody has set `iogpu.wired_limit_mb`: then the working set is no longer the default one."""
    default_bytes = default_of(max_buffer_bytes)
    return abs(working_set_bytes - default_bytes) > _NEAR * default_bytes


def major(macos: str | None) -> int | None:
    """26 of `26.1`; None of what is no version."""
    match = re.match(r"(\d{1,3})(?:\.|$)", macos or "", re.ASCII)
    return int(match[1]) if match else None


def _rule(macos: str | None) -> str:
    rules = {name: row["from_macos"] for name, row in table("working_set").items() if name.startswith("macos-")}
    version = major(macos) or 0
    return max((name for name, first in rules.items() if first <= version), key=lambda name: rules[name])


def _bytes(memory_bytes: int, row: Mapping[str, Any]) -> int:
    if "minus_gb" in row:
        return memory_bytes - int(row["minus_gb"]) * 2**30
    numerator, denominator = row["share"]
    pages = -(-memory_bytes * numerator // (denominator * _PAGE_BYTES))
    return int(pages * _PAGE_BYTES)
