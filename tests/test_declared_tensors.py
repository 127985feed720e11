"""Declared tensors: what is contradictory is found at build, and what requests need is in the requirements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from mlspec.model.document import Pointer
from mlspec.model.signature import Image, Tensor
from mlspec.tensors.declared import are_sound
from mlspec.tensors.requirements import package_lines, request_packages


@dataclass
class Told:
    """Keeps what is reported."""

    faults: list[tuple[Pointer, str]] = field(default_factory=list)

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        assert code == "bad-tensor"
        assert help
        self.faults.append((pointer, message))

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        raise AssertionError

    def of_service(self) -> Told:
        return self


@dataclass(frozen=True)
class OnSet:
    constraint_set: str


def tensor(*shape: int | str, **more: Any) -> Tensor:
    return Tensor(name="x", shape=shape, **more)


GRAY = Image(mode="gray", layout="channels_first", divide_by=255)


@pytest.mark.parametrize(
    "sound",
    [
        tensor("n", 1, 8, 8, image=GRAY),
        tensor(1, "h", "w", image=GRAY),
        tensor("n", 8, 8, "channels", image=Image()),
        tensor(8, 8, dtype="uint8", image=Image(mode="gray", layout="none")),
        tensor("n", 8, 8, 3, dtype="int32", image=Image(divide_by=5)),
        tensor("n", 2, columns=("a", "b")),
        tensor(2, dtype="string", columns=("a", "b")),
        tensor("n", minimum=0, maximum=0),
    ],
)
def test_what_makes_sense_is_taken(sound: Tensor) -> None:
    told = Told()
    assert are_sound([sound], [], told)
    assert told.faults == []


@pytest.mark.parametrize(
    "sound",
    [
        tensor("n", 2, labels=("a", "b")),
        tensor("n", dtype="int64", labels=("a",)),
        tensor("n", "classes", labels=("a",)),
    ],
)
def test_outputs_may_have_labels(sound: Tensor) -> None:
    assert are_sound([], [sound], Told())


@pytest.mark.parametrize(
    ("bad", "where", "message"),
    [
        (tensor("n", 8, 8, 1, image=GRAY), "image", "with 8 channels"),
        (tensor("n", "m", 1, 8, 8, image=GRAY), "shape", "[channels, height, width]"),
        (tensor("n", image=Image(mode="gray", layout="none")), "shape", "[height, width]"),
        (tensor("n", 8, 8, 3, dtype="bool", image=Image()), "dtype", "bool[n, 8, 8, 3]"),
        (tensor("n", 3, columns=("a", "b")), "columns", "has 2 columns"),
        (tensor("n", "m", columns=("a", "b")), "columns", "has 2 columns"),
        (tensor("n", 8, 2, columns=("a", "b")), "columns", "has 2 columns"),
        (tensor("n", 8, 8, 3, image=Image(), columns=("a", "b", "c")), "columns", "no columns"),
    ],
)
def test_what_contradicts_itself_is_told_with_its_place(bad: Tensor, where: str, message: str) -> None:
    told = Told()
    assert not are_sound([tensor("n"), bad], [], told)
    ((pointer, text),) = told.faults
    assert pointer[:3] == ("inputs", 1, where)
    assert message in text


def test_images_and_tables_bring_their_packages() -> None:
    assert request_packages([tensor("n")]) == ()
    assert request_packages([tensor("n", 1, 8, 8, image=GRAY), tensor("n", 1, columns=("a",))]) == ("pillow", "pyarrow")
    for name in ("macos", "linux-cpu", "linux-cuda12", "linux-cuda13"):
        target: Any = OnSet(name)
        assert [line.partition("==")[0] for line in package_lines(("pillow", "pyarrow"), target)] == [
            "pillow",
            "pyarrow",
        ]
        assert any(line.startswith("tokenizers==") for line in package_lines(("tokenizers",), target))
    assert package_lines((), OnSet("macos")) == ()  # type: ignore[arg-type]
