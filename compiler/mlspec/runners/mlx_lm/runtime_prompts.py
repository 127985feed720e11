"""From a request's text to token ids, as the `mlx_lm.generate` command does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class PromptEncoder:
    """Around mlx_lm's tokenizer, which one thread at a time may use."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @property
    def has_template(self) -> bool:
        return bool(self._tokenizer.has_chat_template)

    @property
    def probe(self) -> list[int]:
        """One token to generate from."""
        return [min(self._tokenizer.eos_token_ids, default=0)]

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The ids of a conversation and of the start of the answer. Raises ValueError, or what the template
        raises, for messages that the template refuses.
        """
        text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def text(self, text: str) -> list[int]:
        """The ids of a text as it stands, with the model's first token unless the text begins with it."""
        first = self._tokenizer.bos_token
        return list(self._tokenizer.encode(text, add_special_tokens=first is None or not text.startswith(first)))
