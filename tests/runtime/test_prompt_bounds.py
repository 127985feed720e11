"""A text never has fewer tokens than its length alone says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from mlspec.runners.mlx_lm.runtime_prompt_bounds import PromptBound
from runtime.tokens import TINY, TinyTokens

NFC = {"type": "NFC"}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
TEXT = st.one_of(st.text(), st.text("ab \n\u0301é\u1f82e<|im_end|>"), st.text(" \t", max_size=300))


class Changed:
    """The tiny model's tokenizer with other parts."""

    def __init__(self, *added: AddedToken, **parts: Any) -> None:
        data = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
        self.backend_tokenizer = Tokenizer.from_str(json.dumps({**data, **parts}))
        self.backend_tokenizer.add_tokens(list(added))


STRIPS = AddedToken("<strips>", lstrip=True, rstrip=True)
TOKENIZERS = [TinyTokens(), Changed(normalizer=NFC), Changed(STRIPS)]
BOUNDS = [(made.backend_tokenizer, PromptBound(made)) for made in TOKENIZERS]


@given(text=TEXT, times=st.integers(1, 40))
def test_no_text_has_fewer_tokens(text: str, times: int) -> None:
    for backend, bound in BOUNDS:
        for one in (text * times, "<strips>" + text * times, text * times + "<strips>"):
            assert bound.fewest_tokens(one) <= len(backend.encode(one, add_special_tokens=False).ids)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_long_text_has_many(tokenizer: Any) -> None:
    assert PromptBound(tokenizer).fewest_tokens("word " * 10_000) > 500


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
        {"normalizer": {"type": "Sequence", "normalizers": [NFC, {"type": "StripAccents"}]}},
        {"normalizer": {**REPLACE, "pattern": {"Regex": " +"}}},
        {"normalizer": {**REPLACE, "content": ""}},
        {"pre_tokenizer": {"type": "WhitespaceSplit"}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": False}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": False}},
    ],
)
def test_of_a_tokenizer_that_may_leave_something_out_nothing_is_said(parts: dict[str, Any]) -> None:
    assert PromptBound(Changed(**parts)).fewest_tokens("a" * 100_000) == 0


def test_of_a_tokenizer_without_a_backend_nothing_is_said() -> None:
    assert PromptBound(object()).fewest_tokens("a" * 100_000) == 0
