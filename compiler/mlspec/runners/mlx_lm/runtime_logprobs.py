"""The log probabilities of an answer's tokens, as clients see them."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import mlx.core as mx

from mlspec_runtime.generate.messages import TokenAlternative, TokenLogprobs


def token_logprobs(logprobs: mx.array, token: int, count: int, tokenizer: Any) -> TokenLogprobs:
    """Of a chosen token and the `count` likeliest ones, from the log probabilities of all, shape (vocabulary,). What is
    impossible is left out of those. `tokenizer` is mlx_lm's.
    """
    texts = _texts(tokenizer)
    own, ids, values = _picked(logprobs, token, count)
    likeliest = sorted(zip(ids, values, strict=True), key=lambda pair: (-pair[1], pair[0]))
    top = [texts.alternative(id_, value) for id_, value in likeliest if math.isfinite(value)]
    chosen = texts.alternative(token, own)
    return TokenLogprobs.model_construct(
        token=token, text=chosen.text, bytes=chosen.bytes, logprob=chosen.logprob, top=top
    )


def _picked(logprobs: mx.array, token: int, count: int) -> tuple[float, list[int], list[float]]:
    own: Any = logprobs[token].astype(mx.float32)
    if not count:
        return own.item(), [], []
    count = min(count, logprobs.size)
    ids: Any = mx.argpartition(-logprobs, kth=count - 1)[:count]
    values: Any = logprobs[ids].astype(mx.float32)
    mx.eval(own, ids, values)
    return own.item(), ids.tolist(), values.tolist()


@lru_cache(maxsize=1)
def _texts(tokenizer: Any) -> TokenTexts:
    return TokenTexts(tokenizer)


class TokenTexts:
    """The text and the bytes of single tokens, each looked up once. A byte-level tokenizer's tokens have bytes that may
    be parts of characters; SentencePiece has a token for each byte, and a mark for a blank.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)
        vocabulary = tokenizer.get_vocab()
        # A blank is in each vocabulary; rare bytes may be in none.
        self._is_byte_level = _BLANK in vocabulary and "<0x0A>" not in vocabulary
        self._known: dict[int, tuple[str, list[int]]] = {}

    def alternative(self, token: int, logprob: float) -> TokenAlternative:
        """A token as clients see it."""
        known = self._known.get(token)
        if known is None:
            data = self._bytes(token)
            known = self._known[token] = (data.decode("utf-8", "replace"), list(data))
        text, data_ = known
        return TokenAlternative.model_construct(token=token, text=text, bytes=data_, logprob=logprob)

    def _bytes(self, token: int) -> bytes:
        piece = str(self._tokenizer.convert_ids_to_tokens(token) or "")
        if token in self._special or piece in self._tokenizer.added_tokens_encoder:
            return piece.encode()
        if self._is_byte_level:
            return bytes(BYTES[character] for character in piece)
        if re.fullmatch("<0x[0-9A-F]{2}>", piece):
            return bytes.fromhex(piece[3:5])
        return piece.replace("\u2581", " ").encode()


def _byte_characters() -> dict[str, int]:
    """GPT-2's characters for bytes (`bytes_to_unicode` in its encoder.py): printable ones stand for themselves, the
    others for those from 256 on.
    """
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + index): byte for index, byte in enumerate(others)}


BYTES = _byte_characters()
_BLANK = next(character for character, byte in BYTES.items() if byte == ord(" "))
