"""Numbers in what commands print, as text or as numbers; what can't be one is nothing."""

from __future__ import annotations

import json
import re

from mlspec.hardware.errors import UnreadableError
from mlspec.hardware.profile import MACOS, MODEL, MOST_BYTES

MOST_CORES = 1024
_DIGITS = re.compile(r"\s*(\d{1,18})\s*", re.ASCII)
_SIZE = re.compile(r"\s*(\d{1,6}(?:\.\d{1,3})?)\s*([MGT])i?[bo]\s*", re.IGNORECASE | re.ASCII)
_UNIT_BYTES = {"M": 2**20, "G": 2**30, "T": 2**40}


def whole(value: object, most: int, least: int = 1) -> int | None:
    """A whole number between `least` and `most`, which may be written as a text."""
    if isinstance(value, str):
        match = _DIGITS.fullmatch(value)
        value = int(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if least <= value <= most else None


def size_bytes(value: object) -> int | None:
    """`16 GB` or a number of bytes."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return whole(value, MOST_BYTES)
    return whole(round(float(match[1]) * _UNIT_BYTES[match[2].upper()]), MOST_BYTES)


def model_identifier(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(MODEL, value, re.ASCII) else None


def macos_version(value: object) -> str | None:
    """`26.1`, also of `macOS 26.1 (25B78)`."""
    if not isinstance(value, str):
        return None
    match = re.match(rf"\s*(?:macOS\s+)?({MACOS})(?![\w.])", value, re.IGNORECASE | re.ASCII)
    return match[1] if match else None


def parsed_json(text: str, what: str) -> object:
    """The data in a JSON text.

    Raises:
        UnreadableError: it is no JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise UnreadableError(f"{what} is no JSON", "record it again, whole") from problem
