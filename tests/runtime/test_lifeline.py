"""The pipe by which a service sees that whoever started it has gone."""

from __future__ import annotations

import os
import threading

import pytest

from mlspec_runtime.lifeline import LIFELINE_VARIABLE, end_with_lifeline, watch


def test_it_ends_with_the_pipe_and_not_before() -> None:
    held, kept = os.pipe()
    ended = threading.Event()
    watching = threading.Thread(target=watch, args=(str(held), ended.set), daemon=True)
    watching.start()
    assert watching.is_alive()
    assert not ended.is_set()
    os.close(kept)
    assert ended.wait(30)
    watching.join(30)
    os.close(held)


@pytest.mark.parametrize("given", ["", "pipe", "-1", "1048575"])
def test_what_is_no_pipe_ends_nothing(given: str, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[bool] = []
    watch(given, lambda: ended.append(True))
    assert not ended
    assert f"{LIFELINE_VARIABLE}={given} can't be read" in caplog.text


def test_only_the_process_that_was_told_of_it_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr("mlspec_runtime.lifeline._terminate", ended.set)
    held, kept = os.pipe()
    monkeypatch.setenv(LIFELINE_VARIABLE, str(held))
    end_with_lifeline()
    assert LIFELINE_VARIABLE not in os.environ
    os.close(kept)
    assert ended.wait(30)
    os.close(held)
