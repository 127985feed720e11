"""The layout of a spec's text: indents, spaces, blank lines and the order of keys. Comments stay as they are.

The text itself is laid out anew, line by line, from the places that the YAML scanner gives. (A round trip through
ruamel.yaml was measured: it leaves comments at their old columns, joins what was broken over lines and writes
`null` as nothing.) That nothing else changed is checked at the end, not assumed.
"""

from __future__ import annotations

from mlspec.formatting.layout import laid_out
from mlspec.formatting.meaning import comments, meaning
from mlspec.formatting.order import ordered

__all__ = ["comments", "formatted_text", "meaning"]


def formatted_text(text: str) -> str:
    """The text in its one layout; keys stay where they are if an alias needs them there.

    Raises:
        ruamel.yaml.error.MarkedYAMLError: the text is no YAML document.
        ValueError: the layout would change what the text says.
    """
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    said = (meaning(plain), comments(plain))
    new = laid_out(plain)
    for candidate in (laid_out(ordered(new)), new):
        if _says(candidate, said):
            return candidate
    raise ValueError("its layout can't be changed without changing what it says")


def _says(text: str, said: tuple[object, list[str]]) -> bool:
    from ruamel.yaml.error import YAMLError

    try:
        return (meaning(text), comments(text)) == said
    except YAMLError:
        return False
