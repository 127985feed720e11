"""How a plan may be drawn: in colours or not, in block letters or in ASCII, in so many columns."""

from __future__ import annotations

from dataclasses import dataclass

NARROWEST, WIDEST = 32, 132
USUAL = 80
_DRAWN = "█▓▒░▚▄·…✓✗"
_STYLES = {
    "bold": "1",
    "dim": "2",
    "set": "36",
    "auto": "35",
    "estimate": "33",
    "good": "32",
    "bad": "31",
    "warning": "33",
}
PARTS = ("34", "36", "32", "33", "35", "31")
"""Colours of the parts of a bar, in their order."""


@dataclass(frozen=True)
class Look:
    """`letters` is whether the stream can write block letters; `columns` is what it is wide; `whole` is whether all is
    to be read, however long: nobody can widen a file.
    """

    colour: bool = False
    letters: bool = True
    columns: int = USUAL
    whole: bool = False

    def paint(self, style: str, text: str) -> str:
        """The text in one of the named styles, or in a colour by its number."""
        return f"\x1b[{_STYLES.get(style, style)}m{text}\x1b[0m" if self.colour and text else text

    def letter(self, drawn: str, plain: str) -> str:
        return drawn if self.letters else plain

    @property
    def ellipsis(self) -> str:
        return self.letter("…", "...")

    def spelt(self, text: str) -> str:
        """The text in letters that the stream has, as far as it is ours."""
        return text if self.letters else text.replace("…", "...")


def look(*, colour: bool, encoding: str | None, columns: int, whole: bool = False) -> Look:
    """The look for a stream of this encoding and width."""
    return Look(colour, _can_write(encoding), max(NARROWEST, min(columns, WIDEST)), whole)


def _can_write(encoding: str | None) -> bool:
    try:
        _DRAWN.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
