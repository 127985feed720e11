"""What a plain scalar stands for, by the core schema of YAML 1.2 (section 10.3.2), with the cases that JSON lacks."""

from __future__ import annotations

import math
import re

Scalar = str | int | float | bool | None

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([Tt ].*)?")
_INT64_DIGITS = 19
_LONGEST_NUMBER = 400
"""Characters; a longer one isn't finite, or has digits that a float can't keep."""


class UnfitError(Exception):
    """A scalar that is no JSON value: `code` is the diagnostic's, `help` the remedy."""

    def __init__(self, code: str, message: str, help: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.help = help


def resolve(text: str) -> Scalar:
    """The value of a plain scalar; raises UnfitError."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    return _text(text)


def _integer(text: str) -> int:
    base = {"0x": 16, "0o": 8}.get(text[:2], 10)
    # int() of thousands of digits takes quadratic time and raises from 4,300 on: look at the length first.
    digits = text[2:] if base != 10 else text.lstrip("+-")
    if len(digits.lstrip("0")) <= _INT64_DIGITS + (base == 8) * 2:
        value = int(digits, base) * (-1 if text.startswith("-") else 1)
        if -(2**63) <= value < 2**63:
            return value
    raise UnfitError(
        "yaml-integer", "this integer does not fit into 64 bits", "write a smaller number, or quote a text"
    )


def _float(text: str) -> float:
    value = float(text) if len(text) <= _LONGEST_NUMBER else math.inf
    if math.isfinite(value):
        return value
    raise _not_finite(text)


def _text(text: str) -> str:
    if _NOT_FINITE.fullmatch(text):
        raise _not_finite(text)
    if _DATE.fullmatch(text):
        raise UnfitError("yaml-date", "many YAML readers take this for a date", "write it in quotes if it is a text")
    return text


def _not_finite(text: str) -> UnfitError:
    return UnfitError("yaml-not-finite", "this number is not finite", "write a finite number, or quotes around a text")
