"""How the tokens of an answer are chosen, as a runner is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from pydantic import ConfigDict

MAX_SEED = 2**63 - 1
GrammarKind = Literal["json_object", "json_schema", "lark"]


@runtime_checkable
class Constraint(Protocol):
    """A compiled grammar at its place in one answer. `problem` says why it could not be followed any further; the
    answer ended there. None: it is followed.
    """

    @property
    def problem(self) -> str | None: ...


@dataclass(frozen=True)
class Grammar:
    """What an answer must be: JSON, JSON of the schema in `text`, or a text of the Lark grammar in `text`. The runner
    puts its `constraint` in, one for each answer.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    kind: GrammarKind
    text: str = ""
    constraint: Constraint | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 takes the likeliest; `top_p` 1, `top_k` 0, `min_p` 0,
    `repetition_penalty` 1 and both other penalties at 0 are off; without `seed` each request draws its own. `logprobs`
    asks for each token's log probability with so many alternatives.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    grammar: Grammar | None = None

    @property
    def work(self) -> tuple[bool, ...]:
        """What is computed to choose a token, beyond finding the likeliest: each takes time of its own."""
        drawn = self.temperature > 0
        cut = (drawn and self.top_p < 1, drawn and self.top_k > 0, drawn and self.min_p > 0)
        penalized = self.presence_penalty != 0 or self.frequency_penalty != 0
        changed = (self.repetition_penalty != 1, penalized, bool(self.logit_bias), self.grammar is not None)
        return (drawn, *cut, *changed, self.logprobs is not None)
