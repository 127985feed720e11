"""Decided values in a person's units: GiB, tokens, seconds; never raw bytes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mlspec.reporting.words import on_one_line

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_TOKENS = ("context_length", "prefill_step", "max_tokens")
_NO_WIDTH = ("Mn", "Me", "Cf")


def memory(size_bytes: int) -> str:
    """`12.4 GiB`; what would round to nothing in GiB is told in MiB, and that in KiB."""
    if abs(size_bytes) >= 0.1 * _GIB:
        return f"{size_bytes / _GIB:,.1f} GiB"
    if abs(size_bytes) >= 0.1 * _MIB:
        return f"{size_bytes / _MIB:,.1f} MiB"
    return f"{size_bytes / _KIB:,.1f} KiB" if size_bytes else "0"


def rate(tokens_per_s: float) -> str:
    """Tokens a second without more digits than an estimate has."""
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 10 else f"{tokens_per_s:.1f}"


def band(low_expected_high: tuple[float, float, float]) -> str:
    """`52 (39 to 68)`."""
    low, expected, high = (rate(value) for value in low_expected_high)
    return f"{expected} ({low} to {high})"


def shown(key: str, value: Any) -> str:
    """A decision's value for a person, on one line; what it is measured in follows from the last part of its key."""
    name = key.rpartition(".")[2]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _measured(name, value)
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return quantization(value) if name == "quantization" and "bits" in value else _listed(value)
    if isinstance(value, list | tuple):
        return ", ".join(shown(key, item) for item in value) or "none"
    return on_one_line(str(value))


def quantization(value: Mapping[str, Any]) -> str:
    """`4-bit, groups of 64`, with the mode where it isn't the usual one."""
    mode, group = value.get("mode") or "affine", value.get("group_size")
    parts = (f"{value['bits']}-bit" if mode == "affine" else str(mode), f"groups of {group}" if group else "")
    return on_one_line(", ".join(filter(None, parts)))


def in_words(key: str, value: Any) -> str:
    """A value with its unit's word where a table has no room for it."""
    text = shown(key, value)
    return f"{text} tokens" if key.rpartition(".")[2] in _TOKENS and isinstance(value, int) else text


def columns(text: str) -> int:
    """Terminal columns of a text without control characters, by Unicode's East Asian width."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most `width` columns: what doesn't fit is cut at a word's end where one is near."""
    if columns(text) <= width:
        return text
    room, kept = width - len(ellipsis), ""
    for character in text:
        if columns(kept) + _columns(character) > room:
            break
        kept += character
    at_word = kept.rpartition(" ")[0]
    return (at_word if len(at_word) > len(kept) // 2 else kept).rstrip(" ,;:(") + ellipsis


def _measured(name: str, value: int | float) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return memory(value)
    if name.endswith("_mb") and isinstance(value, int):
        return memory(value * _MIB)
    if name.endswith("_bits"):
        return f"{value}-bit"
    if name.endswith("_gb_s"):
        return f"{value:g} GB/s"
    if name.endswith("_s") and not name.endswith("_per_s"):
        return f"{value:g} s"
    if name in ("port", "seed"):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _listed(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{on_one_line(str(key))} {shown(str(key), item)}" for key, item in value.items()) or "none"


def _columns(character: str) -> int:
    if unicodedata.category(character) in _NO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
