"""How many tokens a text has at least, by its length alone: tokenizing a text that can't fit takes long."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_COMPOSES = 4
"""NFC and NFKC make one character of up to four."""
_SAME_LENGTH = frozenset(("NFD", "NFKD", "Prepend", "ByteLevel"))
_KEEPS_ALL = frozenset(("ByteLevel", "Metaspace", "Digits"))
_BYTES = 256


class PromptBound:
    """Of one tokenizer. It says nothing (0) of one that may leave characters out, or isn't known to keep them."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._most_characters: int | None = None
        if backend is None:
            return
        parts = json.loads(backend.to_str())
        composes = _shrinks(parts.get("normalizer"))
        if composes and _keeps_all(parts.get("pre_tokenizer")) and _knows_all(parts):
            self._most_characters = composes * max(map(len, backend.get_vocab()), default=1)
        # Some take the blanks around them in, however many these are.
        self._strips = any(added["lstrip"] or added["rstrip"] for added in parts.get("added_tokens") or ())

    def fewest_tokens(self, text: str) -> int:
        """The text has as many, or more."""
        if self._most_characters is None:
            return 0
        characters = len("".join(text.split())) if self._strips else len(text)
        return math.ceil(characters / self._most_characters)


def _shrinks(normalizer: Mapping[str, Any] | None) -> int:
    """How many characters become one at most; 0: not known."""
    if normalizer is None or normalizer["type"] in _SAME_LENGTH:
        return 1
    if normalizer["type"] == "Sequence":
        return math.prod(map(_shrinks, normalizer["normalizers"]))
    if normalizer["type"] == "Replace":
        replaced = normalizer["pattern"].get("String")
        return int(replaced is not None and len(normalizer["content"]) >= len(replaced))
    return _COMPOSES if normalizer["type"] in ("NFC", "NFKC") else 0


def _keeps_all(splitter: Mapping[str, Any] | None) -> bool:
    if splitter is None or splitter["type"] in _KEEPS_ALL:
        return True
    if splitter["type"] == "Sequence":
        return all(map(_keeps_all, splitter["pretokenizers"]))
    return bool(splitter["type"] == "Split" and splitter["behavior"] != "Removed")


def _knows_all(parts: Mapping[str, Any]) -> bool:
    """Whether each character has tokens of its own, by its bytes if need be; else several may become one, or none."""
    model = parts["model"]
    if model["type"] != "BPE":
        return False
    if model.get("byte_fallback"):
        return all(f"<0x{byte:02X}>" in model["vocab"] for byte in range(_BYTES))
    return '"ByteLevel"' in json.dumps([parts.get("normalizer"), parts.get("pre_tokenizer")]) and all(
        letter in model["vocab"] for letter in _byte_letters()
    )


def _byte_letters() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return list(ByteLevel.alphabet())
