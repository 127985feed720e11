"""Which runner a folder of the user's is for: each that can tell is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mlspec import runners
from mlspec.errors import CommandError
from mlspec.looking import NO_FILE, kind_of, told
from mlspec.starting.place import ModelFolder
from mlspec.starting.spec_text import FirstModel


@dataclass(frozen=True)
class NoModel:
    """Why a folder that looks like one of a runner's can't be served as it is; `certainty` as `FirstModel` has it, 0
    for what any other runner may know better.
    """

    message: str
    help: str
    certainty: int = 2


@runtime_checkable
class Recogniser(Protocol):
    """A runner that knows its models by their folders."""

    looks_for: str
    """What must be in a folder of its own, in words."""

    def recognise(self, place: ModelFolder) -> FirstModel | NoModel | None:
        """The first spec of a folder; None if nothing in it is for this runner. Only configurations are read.

        Raises CommandError for a file that it must read and can't, and OSError.
        """


@runtime_checkable
class Beginner(Protocol):
    """A runner whose first spec may be written without a folder."""

    def to_fill_in(self) -> FirstModel:
        """A first spec with place holders."""


def recognised(place: ModelFolder) -> FirstModel:
    """What the runner that knows the folder best makes of it.

    Raises:
        CommandError: there is no such folder, or it holds nothing to serve, with what to do about it.
    """
    try:
        _check_folder(place)
        any(place.folder.iterdir())  # glob is silent about a folder that it can't list
        answers = [(name, answer) for name, runner in _recognisers() if (answer := runner.recognise(place))]
    except OSError as problem:
        message, help = told(problem, place.folder, str)
        raise CommandError("model-unreadable", message, help) from problem
    if not answers:
        help = "; ".join(f"{name}: {runner.looks_for}" for name, runner in _recognisers())
        raise CommandError("model-format", f"{place.shown}: no model that a runner here knows", help)
    return _best(place, answers)


def to_fill_in() -> FirstModel:
    """A first spec for no folder, by the first runner that has one.

    Raises:
        CommandError: none has.
    """
    for name in runners.names():
        runner = runners.find(name)
        if isinstance(runner, Beginner):
            return runner.to_fill_in()
    raise CommandError("usage", "which model is it for?", "mlspec init MODEL_DIR")


def _recognisers() -> Iterator[tuple[str, Recogniser]]:
    for name in runners.names():
        runner = runners.find(name)
        if isinstance(runner, Recogniser):
            yield name, runner


def _check_folder(place: ModelFolder) -> None:
    kind = kind_of(place.folder)
    if kind != "folder":
        wrong = {**NO_FILE, "file": "is a file", "nothing": "there is no such folder"}[kind]
        problem = wrong if kind == "nothing" else f"{wrong}, not a folder"
        raise CommandError("model-not-found", f"{place.shown}: {problem}", "name the folder of a model or an adapter")


def _best(place: ModelFolder, answers: list[tuple[str, FirstModel | NoModel]]) -> FirstModel:
    """The most certain one; of two alike a model before a fault, and the runner that is first by its name."""
    ranked = sorted(answers, key=lambda answer: (-answer[1].certainty, isinstance(answer[1], NoModel)))
    best = ranked[0][1]
    if isinstance(best, NoModel):
        raise CommandError("model-format", f"{place.shown}: {best.message}", best.help)
    return best
