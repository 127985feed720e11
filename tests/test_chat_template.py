"""A spec's own chat template: what is looked at as the spec is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlspec.runners.mlx_lm.chat_template import LARGEST_BYTES, check_chat_template, problem_of
from models.tiny_tokenizer import CHAT_TEMPLATE

GOOD = [
    CHAT_TEMPLATE,
    "",
    "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{% continue %}{% endfor %}",
    "{% generation %}{{ message.content }}{% endgeneration %}",
    "{{ raise_exception('no') }}{{ messages | tojson(indent=2) }}{{ strftime_now('%Y') }}",
]
BAD = [
    (b"{% for m in messages %}\nx\n", "is no Jinja: line 2: Unexpected end of template."),
    (b"a\nb\n{{ message.content }\n", "is no Jinja: line 3: unexpected '}'"),
    (b"{% frobnicate %}", "is no Jinja: line 1: Encountered unknown tag 'frobnicate'."),
    (b"{% generation %}x", "is no Jinja: line 1: Unexpected end of template."),
    (b"{{ " + b"(" * 100_000, "is no Jinja: it is nested too deeply"),
    (b"{{ " + b"1" * 5000 + b" }}", "is no Jinja: Exceeds the limit (4300 digits)"),
    (b"one\ntwo \xff", "is no UTF-8: line 2 has the byte 0xff"),
    (b"x" * (LARGEST_BYTES + 1), "has more than 1,048,576 bytes"),
]


class Said:
    """Takes faults down."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str, tuple[str | int, ...]]] = []

    def error(self, code: str, message: str, pointer: tuple[str | int, ...] = (), *, help: str = "") -> None:
        assert help
        self.errors.append((code, message, pointer))

    def warning(self, code: str, message: str, pointer: tuple[str | int, ...] = (), *, help: str = "") -> None:
        raise AssertionError(message)

    def of_service(self) -> Said:
        return self


@pytest.mark.parametrize("text", GOOD)
def test_good_templates(text: str) -> None:
    assert problem_of(text.encode()) == ("", "")


@pytest.mark.parametrize(("content", "told"), BAD, ids=range(len(BAD)))
def test_bad_templates(content: bytes, told: str) -> None:
    problem, help = problem_of(content)
    assert problem.startswith(told)
    assert help


def test_the_template_is_not_run() -> None:
    assert problem_of(b"{{ ''.__class__.__mro__ }}{{ 1 / 0 }}{{ 'x' * 10 ** 12 }}") == ("", "")


def test_a_fault_is_reported_at_its_place(tmp_path: Path) -> None:
    said, file = Said(), tmp_path / "chat.jinja"
    file.write_bytes(b"{% if %}")
    check_chat_template(("chat_template",), file, said)
    message = "the chat template is no Jinja: line 1: Expected an expression, got 'end of statement block'"
    assert said.errors == [("chat-template", message, ("chat_template",))]
