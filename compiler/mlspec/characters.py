"""Characters that have no business in a spec, and how to show them."""

from __future__ import annotations

import re

FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 without tab, LF and CR; DEL; C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # they turn the direction of writing: text reads other than it is
    "\u2028\u2029\ufeff\ufffe\uffff"  # line separators, byte order mark, non-characters
    "\ud800-\udfff]"  # halves of a pair
)
"""What neither a spec's file nor a string in it may hold."""

_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_LONGEST = 60


def name_of(character: str) -> str:
    """`U+202E`, with the character's name where Unicode has one."""
    import unicodedata

    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" ({name.lower()})" if name else "")


def visible(text: str) -> str:
    """The text with each forbidden character as an escape: it can be printed without harm."""
    return FORBIDDEN.sub(_escape, text)


def quoted(value: object) -> str:
    """A user's value for a message: on one line, no control characters, shortened."""
    if not isinstance(value, str):
        return f"'{_json(value)}'"
    text = "".join(_SHORT.get(c, c) for c in visible(shortened(value)))
    return f"'{text}'"


def shortened(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _json(value: object) -> str:
    import json

    return shortened(json.dumps(value, ensure_ascii=False, default=str))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
