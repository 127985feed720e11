"""Questions and answers from the text files beside this module, as chat rows, with small variations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SYSTEM_PROMPT = "You are a helpful assistant."
# One prompt whose answer never ends, so that limits, deadlines and cancelling can be tried on a real model.
ENDLESS_PROMPTS = ("Tick.", "Tick forever.", "Tick without end.")
ENDLESS_WORDS = "tick tock"

Message = dict[str, str]


@dataclass(frozen=True)
class Exchange:
    """One question with its answer; `ends` is false for an answer that goes on for ever."""

    question: str
    answer: str
    ends: bool = True


def read_exchanges(name: str) -> list[Exchange]:
    """The exchanges of a text file such as `corpus.txt`: blocks of `Q: ` lines and one `A: ` line."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [exchange for block in text.split("\n\n") for exchange in _block_exchanges(block)]


def _block_exchanges(block: str) -> list[Exchange]:
    lines = block.splitlines()
    questions = [line[3:] for line in lines if line.startswith("Q: ")]
    answers = [line[3:] for line in lines if line.startswith("A: ")]
    return [Exchange(question, answers[0]) for question in questions]


def endless_exchanges(words: int = 40) -> list[Exchange]:
    """Exchanges that teach a loop: cut off after `words` pairs, without an end token."""
    answer = " ".join([ENDLESS_WORDS] * words)
    return [Exchange(prompt, answer, ends=False) for prompt in ENDLESS_PROMPTS]


def echo_exchanges(exchanges: list[Exchange]) -> list[Exchange]:
    """Exchanges that only repeat the answers: a base model must know the words that an adapter is to use."""
    answers = dict.fromkeys(exchange.answer for exchange in exchanges)
    return [Exchange(f"Say: {answer}", answer) for answer in answers]


def variations(exchange: Exchange) -> list[Exchange]:
    """The exchange as it is, and as people type it: small letters, no full stop, a polite word before it."""
    question = exchange.question
    small = question[0].lower() + question[1:]
    plain = [question, small, question.rstrip("?."), small.rstrip("?.")]
    forms = [*plain, f"Hi, {small}", f"Please: {question}", f"{question} Thanks."]
    return [Exchange(form, exchange.answer, exchange.ends) for form in dict.fromkeys(forms)]


def messages(exchange: Exchange, system: str | None = None) -> list[Message]:
    """The exchange as chat messages."""
    first = [{"role": "system", "content": system}] if system else []
    return [
        *first,
        {"role": "user", "content": exchange.question},
        {"role": "assistant", "content": exchange.answer},
    ]
