"""The tiny model's tokenizer for tests that need no model: what the runner's own code uses of mlx_lm's."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

TINY = Path(__file__).parents[2] / "specs" / "models" / "tiny"
END = 2


class TinyTokens:
    """Of byte-level BPE, 768 tokens; 0 to 2 are special, and 2 ends an answer."""

    def __init__(self) -> None:
        self.backend_tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
        self.eos_token_ids = {END}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: list[int]) -> str:
        return self.backend_tokenizer.decode(tokens, skip_special_tokens=False)

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size()
