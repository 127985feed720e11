"""Did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 80


def closest(word: object, known: Iterable[str]) -> str | None:
    """The known word that the user most likely meant, None if none is near."""
    if not isinstance(word, str) or len(word) > _LONGEST:
        return None
    from difflib import get_close_matches

    folded = {_folded(k): k for k in sorted(known, reverse=True)}
    near = get_close_matches(_folded(word), sorted(folded), n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or nothing."""
    near = closest(word, known)
    return f"did you mean '{near}'?" if near else ""


def listed(words: Iterable[str], last: str = "and") -> str:
    """`a, b and c`."""
    items = list(words)
    return f" {last} ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else "nothing"


def _folded(word: str) -> str:
    return word.lower().replace("_", "-")
