"""What the text of the user's files tells of how they will be called."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlspec.model.document import Pointer
from mlspec.user_callables import check_function, check_has_one


class Heard:
    """Remembers faults by their severity and code."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def error(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.all.append(f"error {code}")

    def warning(self, code: str, message: str, pointer: Pointer = (), *, help: str = "") -> None:
        self.all.append(f"warning {code}")

    def of_service(self) -> Heard:
        return self


def written(folder: Path, text: str) -> Path:
    (folder / "own.py").write_text(text)
    return folder / "own.py"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("class Own: ...", ["error name-missing"]),
        ("class Own(object): ...", ["error name-missing"]),
        ("class Base: ...\nclass Own(Base): ...", ["error name-missing"]),
        ("from base import Base\nclass Own(Base): ...", ["warning name-missing"]),
        ("import base\nclass Own(base.Base): ...", ["warning name-missing"]),
        ("class Own:\n    def predict(self, inputs): ...", []),
        ("class Own:\n    predict_batch = max", []),
        ("class Own:\n    def __init__(self):\n        self.predict = max", []),
        ("class Own:\n    def __getattr__(self, name): ...", []),
        ("class Base:\n    def predict(self, inputs): ...\nclass Own(Base): ...", []),
        ("class Own(Own): ...\nclass Own:\n    def predict(self, inputs): ...", []),
        ("@make\nclass Own: ...", []),
        ("class Own(metaclass=Meta): ...", []),
        ("from elsewhere import Own", []),
        ("def (", []),
    ],
)
def test_a_class_has_what_it_is_called_by(tmp_path: Path, text: str, told: list[str]) -> None:
    heard = Heard()
    check_has_one(written(tmp_path, text), "Own", ("predict", "predict_batch"), heard)
    assert heard.all == told


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("def own(arrays): ...", True),
        ("def own(arrays, scale=1, *, more=2): ...", True),
        ("def own(*arrays): ...", True),
        ("own = max", True),
        ("from elsewhere import own", True),
        ("@make\ndef own(): ...", True),
        ("if True:\n    def own(): ...", True),
        ("class own: ...", False),
        ("async def own(arrays): ...", False),
        ("def own(): ...", False),
        ("def own(**arrays): ...", False),
        ("def own(one, two): ...", False),
        ("def own(arrays, *, scale): ...", False),
    ],
)
def test_a_function_takes_one_argument_and_is_a_plain_one(tmp_path: Path, text: str, fits: bool) -> None:
    heard = Heard()
    check_function(written(tmp_path, text), "own", (), heard)
    assert heard.all == ([] if fits else ["error bad-step"])
