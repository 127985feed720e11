"""Answers of a form: grammars compiled by llguidance (1.9), and where one answer stands in its own.

A mask of tokens costs llguidance some 50 us; its limits below bound what a schema from a stranger can take: of memory,
of time when it is compiled, and of time at each token, on the thread that computes all requests.
"""

from __future__ import annotations

import copy
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlspec_runtime.errors import ServiceError
from mlspec_runtime.generate.sampling import Grammar

from .runtime_reasons import reason

Mask = NDArray[np.bool_]
MOST_CHARACTERS = 128 * 1024
"""Of a schema. 10,000 enum values are 140 KB; what compiles slowest takes 0.5 s."""
MOST_KEPT = 32
KEPT_CHARACTERS = 1024 * 1024
"""Of all the grammars that are kept compiled: they take memory in proportion to their text."""
LIMITS: Mapping[str, Any] = {"max_lexer_states": 20_000, "max_grammar_size": 200_000, "step_lexer_fuel": 100_000}
"""A lexer's state takes 1 to 2 kB, a unit of fuel 70 ns (llguidance's own figures)."""
WHITESPACE = r" |\n {0,40}"
"""Between the parts of JSON, at most: a small model that may go on with blanks does so for ever."""


@dataclass(frozen=True)
class Thinking:
    """The tokens with which a model begins and ends to think, and whether its prompt ends within that."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    begun: bool = False


class Following:
    """One answer on its way through a grammar. What the model thinks before it answers is free. Used by one thread at
    a time.
    """

    def __init__(self, matcher: Any, ends: Sequence[int], thinking: Thinking | None) -> None:
        self._matcher = matcher
        self._ends = list(ends)
        self._thinking = thinking
        self._may_think = thinking is not None
        self._thought: list[int] | None = [] if thinking is not None and thinking.begun else None
        self.problem: str | None = None

    def take(self, token: int) -> None:
        """Go on by a token of the answer. Nothing follows an end token."""
        may_think, self._may_think = self._may_think, False
        if self._thought is not None:
            self._think(token)
        elif may_think and self._thinking is not None and token == self._thinking.start[0]:
            self._thought = []
        elif self.problem is None and not self._matcher.is_stopped() and not self._matcher.consume_token(token):
            self._fail()

    def allowed(self, vocabulary: int) -> Mask:
        """Which tokens may come next, of so many. After a problem, and at the grammar's end, the end tokens alone."""
        if self._thought is not None:
            mask = np.ones(vocabulary, np.bool_)
            _set(mask, self._ends, False)
            return mask
        mask = self._of_grammar(vocabulary)
        if self._may_think and self._thinking is not None:
            _set(mask, self._thinking.start[:1], True)
        return mask

    def _of_grammar(self, vocabulary: int) -> Mask:
        mask = np.zeros(vocabulary, np.bool_)
        if self.problem is None and not self._matcher.is_stopped():
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            known = np.unpackbits(bits, bitorder="little", count=min(vocabulary, 8 * len(bits)))
            mask[: len(known)] = known
            # Its limits show here, too: then nothing is allowed, and the answer would not end.
            if self._matcher.is_error() or not mask.any():
                self._fail()
        if self.problem is not None or self._matcher.is_stopped():
            mask[:] = False
            _set(mask, self._ends, True)
        return mask

    def _think(self, token: int) -> None:
        assert self._thinking is not None and self._thought is not None  # noqa: S101, PT018 - it is thinking
        end = self._thinking.end
        self._thought = [*self._thought, token][-len(end) :]
        if tuple(self._thought) == end:
            self._thought = None

    def _fail(self) -> None:
        self.problem = reason(self._matcher.get_error())


def _set(mask: Mask, tokens: Sequence[int], value: bool) -> None:
    """A tokenizer may have tokens that its model has no logits of."""
    mask[[token for token in tokens if token < len(mask)]] = value


class Grammars:
    """Compiles grammars for one tokenizer, and keeps the last ones. Any thread may ask."""

    def __init__(self, tokenizer: Any) -> None:
        from llguidance import LLTokenizer

        backend = copy.copy(tokenizer.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        self._ends = sorted(tokenizer.eos_token_ids)
        self._tokenizer = LLTokenizer(backend.to_str(), eos_token=self._ends)
        self._kept: OrderedDict[Grammar, Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def kept(self) -> int:
        """How many are kept compiled."""
        return len(self._kept)

    def is_special(self, token: int) -> bool:
        """Whether a token is none of text, so that a grammar must name it."""
        return bool(self._tokenizer.is_special_token(token))

    def followed(self, grammar: Grammar, thinking: Thinking | None, field: str) -> Grammar:
        """The grammar for one answer. Raises ServiceError (400, of this field) with the reason if it can't be compiled:
        it is no schema, it says what can't be followed, or it is too large.
        """
        if len(grammar.text) > MOST_CHARACTERS:
            raise _refused(f"it has {len(grammar.text)} characters, {MOST_CHARACTERS} are allowed", field)
        with self._lock:
            matcher = self._compiled(grammar, field)
        return replace(grammar, constraint=Following(matcher.deep_copy(), self._ends, thinking))

    def _compiled(self, grammar: Grammar, field: str) -> Any:
        matcher = self._kept.get(grammar)
        if matcher is None:
            matcher = self._kept[grammar] = self._compile(grammar, field)
            while len(self._kept) > MOST_KEPT or sum(len(kept.text) for kept in self._kept) > KEPT_CHARACTERS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(grammar)
        return matcher

    def _compile(self, grammar: Grammar, field: str) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(verbose_errors=False, **LIMITS)
        try:
            matcher = LLMatcher(self._tokenizer, _text(grammar), log_level=0, limits=limits)
        # Half a surrogate pair, or NaN, in a schema. The error's text may repeat it.
        except ValueError as error:
            raise _refused("it has what JSON can't have", field) from error
        # The first mask shows what has no answer at all, and is computed with what the matcher then keeps.
        if matcher.is_error() or not any(matcher.compute_bitmask()) or matcher.is_error():
            raise _refused(reason(matcher.get_error()), field)
        return matcher


def json_of(schema: Mapping[str, Any]) -> str:
    """The text of a schema, with how it is to be followed: in a grammar's text it has no other place."""
    options = {"whitespace_pattern": WHITESPACE, "coerce_one_of": True}
    return json.dumps({**schema, "x-guidance": options}, allow_nan=False)


def _text(grammar: Grammar) -> str:
    from llguidance import LLMatcher

    if grammar.kind == "lark":
        return str(LLMatcher.grammar_from_lark(grammar.text))
    schema = {"type": "object"} if grammar.kind == "json_object" else json.loads(grammar.text)
    return str(LLMatcher.grammar_from_json_schema(json_of(schema)))


def _refused(why: str, field: str) -> ServiceError:
    return ServiceError("bad_format", f"this format can't be followed: {why}", 400, field=field)
