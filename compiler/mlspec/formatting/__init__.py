"""The layout of a spec's text: indents, spaces, blank lines and the order of keys. Comments stay as they are.

The text itself is laid out anew, line by line, from the places that the YAML scanner gives. (A round trip through
ruamel.yaml was measured: it leaves comments at their old columns, joins what was broken over lines and writes
`null` as nothing.) That nothing else changed is checked at the end, not assumed.
"""

from __future__ import annotations

from mlspec.formatting.layout import laid_out
from mlspec.formatting.meaning import comments, meaning
from mlspec.formatting.order import ordered
from mlspec.formatting.scan import scanned

__all__ = ["comments", "formatted_text", "meaning"]


def formatted_text(text: str) -> str:
    """The text in its one layout; keys stay where they are if an alias needs them there.

    Raises:
        ruamel.yaml.error.MarkedYAMLError: the text is no YAML document.
        ValueError: the layout would change what the text says.
    """
    plain = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    said = (comments(plain), meaning(plain))  # the first of them refuses what is nested too deep
    new = laid_out(_with_newline(plain))
    for candidate in (ordered(new), new):
        found = _if_it_says(candidate, said)
        if found is not None:
            return found
    raise ValueError("its layout can't be changed without changing what it says")


def _if_it_says(text: str, said: tuple[list[str], str]) -> str | None:
    """The text, laid out, if it still says the same."""
    from ruamel.yaml.error import MarkedYAMLError

    try:
        new = laid_out(text)
        return new if (comments(new), meaning(new)) == said else None
    except MarkedYAMLError:
        return None


def _with_newline(text: str) -> str:
    """The text with a newline at its end, which must not become part of a block scalar."""
    if text.endswith("\n"):
        return text
    cut = text.rstrip(" ")
    if cut.endswith("\n") and meaning(cut) == meaning(text):
        return cut
    for token in scanned(text).tokens:
        if token.is_block_scalar and token.body_end == len(text):
            header = text[token.start : token.end].rstrip("+-") + "-"
            return f"{text[: token.start]}{header}{text[token.end :]}\n"
    return text + "\n"
