"""Stop texts, and the answer of one request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec_runtime.generate.messages import TokenEvent, TokenLogprobs, ToolCall
from mlspec_runtime.generate.stops import StopFinder
from mlspec_runtime.generate.transcript import Parts, Transcript

TEXT = st.text("ab.", max_size=12)


@given(pieces=st.lists(TEXT, max_size=8), stops=st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3))
def test_pieces_give_what_the_whole_text_gives(pieces: list[str], stops: list[str]) -> None:
    text = "".join(pieces)
    finder = StopFinder(stops)
    shown = "".join(finder.feed(piece) for piece in pieces) + finder.flush()
    ends = [text.find(stop) for stop in stops if stop in text]
    assert finder.found == bool(ends)
    # The first to be complete decides; one that begins before it may end after it.
    first_end = min((text.find(stop) + len(stop) for stop in stops if stop in text), default=len(text))
    assert text.startswith(shown)
    if not ends:
        assert shown == text
    else:
        assert len(shown) <= first_end
        assert not any(stop in shown for stop in stops)


@given(pieces=st.lists(TEXT, max_size=8), stop=st.text("ab.", min_size=1, max_size=4))
def test_one_stop_text_cuts_exactly_before_it(pieces: list[str], stop: str) -> None:
    finder = StopFinder([stop])
    shown = "".join(finder.feed(piece) for piece in pieces) + finder.flush()
    assert shown == "".join(pieces).partition(stop)[0]


def test_what_may_become_a_stop_is_held_back() -> None:
    finder = StopFinder(["END"])
    assert [finder.feed(piece) for piece in ("a E", "N", "x", "EN")] == ["a ", "", "ENx", ""]
    assert finder.flush() == "EN"


class Letters:
    """A detokenizer: token 1 is `a`, 2 is `b`; odd ones become readable with the next."""

    def __init__(self) -> None:
        self._text = ""
        self._held = ""

    def add_token(self, token: int) -> None:
        self._held += chr(96 + token)
        if token % 2 == 0:
            self._text, self._held = self._text + self._held, ""

    def finalize(self) -> None:
        self._text, self._held = self._text + self._held, ""

    @property
    def last_segment(self) -> str:
        text, self._text = self._text, ""
        return text


def told(token: int) -> TokenLogprobs:
    return TokenLogprobs(token=token, text="", bytes=None, logprob=-1.0, top=[])


def test_tokens_go_with_the_text_that_they_make() -> None:
    transcript = Transcript(Letters(), [])
    transcript.add(1)
    assert transcript.take() is None
    transcript.add(2)
    assert transcript.take() == TokenEvent(text="ab", tokens=[1, 2])
    transcript.add(3)
    transcript.finish()
    assert transcript.take() == TokenEvent(text="c", tokens=[3])
    assert transcript.take() is None
    assert (transcript.text, transcript.tokens, transcript.logprobs) == ("abc", [1, 2, 3], [])


@pytest.mark.parametrize("stop", ["c", "bc"])
def test_a_stop_text_in_the_last_piece_counts(stop: str) -> None:
    transcript = Transcript(Letters(), [stop])
    for token in (1, 2, 3):
        transcript.add(token)
    transcript.finish()
    assert transcript.stopped
    assert transcript.reason("length") == "stop"
    assert transcript.text == "abc".partition(stop)[0]


def test_log_probabilities_go_with_their_tokens_to_the_last() -> None:
    transcript = Transcript(Letters(), ["bdf"])
    for token in (1, 2, 4):
        transcript.add(token, told(token))
    assert transcript.take() == TokenEvent(text="a", tokens=[1, 2, 4], logprobs=[told(1), told(2), told(4)])
    transcript.add(6, told(6))
    transcript.finish()
    assert transcript.stopped
    # The stop text shows nothing, but its tokens count.
    assert transcript.take() == TokenEvent(text="", tokens=[6], logprobs=[told(6)])
    assert transcript.take() is None


class Cases:
    """A format: `x` begins and ends reasoning, `z` is a call."""

    def __init__(self, *, several: bool = True) -> None:
        self._several = several
        self._reasons = False

    def splitter(self) -> Cases:
        return Cases(several=self._several)

    def feed(self, text: str) -> Parts:
        parts = Parts()
        for letter in text:
            if letter == "x":
                self._reasons = not self._reasons
            elif letter == "z":
                parts.tool_calls.append(ToolCall(id="1", name="f", arguments="{}"))
                parts.last = not self._several
            elif self._reasons:
                parts.reasoning += letter
            else:
                parts.text += letter
        return parts

    def finish(self, *, cut: bool) -> Parts:
        return Parts("?" if cut else "!")


X, Z = 24, 26


def test_reasoning_and_calls_are_apart_and_stop_texts_are_not_sought_in_them() -> None:
    transcript = Transcript(Letters(), ["b"], Cases())
    for token in (X, 2, 4, X, 4, Z):
        transcript.add(token)
    event = transcript.take()
    assert event is not None
    assert (event.text, event.reasoning, [call.name for call in event.tool_calls]) == ("d", "bd", ["f"])
    transcript.finish(cut=False)
    assert (transcript.text, transcript.reasoning, transcript.stopped) == ("d!", "bd", False)
    assert transcript.reason("stop") == "tool_calls"
    assert transcript.reason("length") == "length"


def test_the_end_says_whether_it_was_cut() -> None:
    transcript = Transcript(Letters(), [], Cases())
    transcript.finish(cut=True)
    assert transcript.text == "?"


def test_nothing_follows_a_stop_text() -> None:
    transcript = Transcript(Letters(), ["b"], Cases())
    for token in (2, Z):
        transcript.add(token)
    transcript.finish()
    assert (transcript.text, transcript.tool_calls, transcript.reason("stop")) == ("", [], "stop")


def test_the_one_call_that_is_wanted_ends_the_answer() -> None:
    transcript = Transcript(Letters(), [], Cases(several=False))
    transcript.add(Z)
    assert transcript.stopped
    assert transcript.reason("stop") == "tool_calls"
