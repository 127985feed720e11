"""Stop texts, and the answer of one request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec_runtime.generate.transcript import StopFinder, Transcript

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


def test_tokens_go_with_the_text_that_they_make() -> None:
    transcript = Transcript(Letters(), [])
    assert (transcript.add(1), transcript.add(2), transcript.take_tokens()) == ("", "ab", [1, 2])
    assert (transcript.add(3), transcript.finish(), transcript.take_tokens()) == ("", "c", [3])
    assert (transcript.text, transcript.tokens) == ("abc", [1, 2, 3])


@pytest.mark.parametrize("stop", ["c", "bc"])
def test_a_stop_text_in_the_last_piece_counts(stop: str) -> None:
    transcript = Transcript(Letters(), [stop])
    for token in (1, 2, 3):
        transcript.add(token)
    transcript.finish()
    assert transcript.stopped
    assert transcript.text == "abc".partition(stop)[0]
