"""Texts in the shape of a token, key or password: found so that they are refused, and never printed."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SHAPES = re.compile(
    r"""
      -----BEGIN\ [A-Z ]*PRIVATE\ KEY(?:\ BLOCK)?-----(?:.*?-----END\ [A-Z ]*PRIVATE\ KEY(?:\ BLOCK)?-----|.*)
    | hf_[A-Za-z0-9]{16,}                                     # Hugging Face
    | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{16,}
    | glpat-[A-Za-z0-9_-]{16,}                                # GitLab
    | xox[a-z]-[A-Za-z0-9-]{10,}                              # Slack
    | AIza[A-Za-z0-9_-]{30,}                                  # Google
    | npm_[A-Za-z0-9]{30,} | pypi-[A-Za-z0-9_-]{30,}
    | (?<![A-Za-z0-9])(?:
        sk-(?=[A-Za-z0-9_-]{0,60}[0-9])[A-Za-z0-9_-]{16,}     # OpenAI, Anthropic and those who copy them
      | (?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}           # Stripe
      | (?:AKIA|ASIA)[0-9A-Z]{16}                             # AWS
      | (?<![_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*   # a JSON web token
      )
    | (?<=://)[^\s/:@]+:[^\s/:@]+(?=@)                        # a password in a URL
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = (
    r"(?:[A-Za-z0-9_-]*[_-])?(?:TOKEN|APIKEY)|[A-Za-z0-9_-]*[_-]KEY"
    r"|[A-Za-z0-9_-]*(?:SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)[A-Za-z0-9_-]*"
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)

# Every repetition below is bounded or can't meet its neighbour's characters: a hostile text takes linear time.
_VALUE = r"""(?P<value>"(?:[^"\\\n]|\\.){0,200}"?|'[^'\n]{0,200}'?|[^\s,}\]\[{|>&*\#"'][^,}\n#]{0,200})"""
_NO_COUNT = r"(?![0-9]{1,6}\s*(?:[,}\]\n#]|$))"
"""`max_token: 64` is a misspelt limit, no secret."""
_QUOTE = r"""["']?"""
_COLON = rf"{_QUOTE}[ \t]{{0,20}}:[ \t]{{0,200}}"
_NEXT = r"[ \t]{0,200}(?:,|(?:\#[^\n]*)?\r?\n)[ \t\r\n]{0,200}(?:-[ \t]{1,20})?"
_IN_TEXT = (
    re.compile(rf"\bname{_COLON}{_QUOTE}(?:{_NAME}){_QUOTE}{_NEXT}{_QUOTE}value{_COLON}{_VALUE}", re.IGNORECASE),
    re.compile(rf"\bvalue{_COLON}{_VALUE}{_NEXT}{_QUOTE}name{_COLON}{_QUOTE}(?:{_NAME})\b", re.IGNORECASE),
    re.compile(rf"(?<![\w-])(?:{_NAME}){_QUOTE}[ \t]{{0,20}}[:=][ \t]{{0,200}}{_NO_COUNT}{_VALUE}", re.IGNORECASE),
)

_NOT_LINE_END = re.compile(r"[^\r\n]")

Range = tuple[int, int]


def holds_secret(text: str) -> bool:
    """True for a text with something in the shape of a token, a private key or a password in it."""
    return _SHAPES.search(text) is not None


def is_secret_name(name: str) -> bool:
    """True for a variable that holds a secret by its name: `HF_TOKEN`, `API_KEY`, `DB_PASSWORD`."""
    return _SECRET_NAME.fullmatch(name) is not None


def masked(text: str, ranges: Iterable[Range] = ()) -> str:
    """The text with stars for what has a secret's shape and for the given ranges; as long as before."""
    found = sorted([*(m.span() for m in _SHAPES.finditer(text)), *ranges])
    parts, done = [], 0
    for start, end in found:
        start = max(start, done)
        if end > start:
            parts += [text[done:start], _NOT_LINE_END.sub("*", text[start:end])]
            done = end
    return "".join([*parts, text[done:]])


def likely_secrets(text: str) -> list[Range]:
    """Where a YAML text, perhaps a broken one, gives values to names of secrets."""
    return [m.span("value") for pattern in _IN_TEXT for m in pattern.finditer(text)]
