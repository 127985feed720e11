"""A spec's own chat template: that it can be read and is Jinja. It is parsed and never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.characters import shortened, visible
from mlspec.model.document import Pointer
from mlspec.runners import Faults

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

LARGEST_BYTES = 1024 * 1024
"""Those of known models have some tens of KiB."""
_LONGEST_REASON = 300


def check_chat_template(pointer: Pointer, file: Path, faults: Faults) -> None:
    """Reports what is wrong with the template in a file. Raises OSError."""
    with file.open("rb") as opened:
        content = opened.read(LARGEST_BYTES + 1)
    problem, help = problem_of(content)
    if problem:
        faults.error("chat-template", f"the chat template {problem}", pointer, help=help)


def problem_of(content: bytes) -> tuple[str, str]:
    """What is wrong with a template, and the way out; twice nothing if it is fine."""
    if len(content) > LARGEST_BYTES:
        return f"has more than {LARGEST_BYTES:,} bytes", "name the template's own file"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        return f"is no UTF-8: line {line} has the byte 0x{content[wrong.start]:02x}", "save it as UTF-8"
    reason = _not_jinja(text)
    return (f"is no Jinja: {reason}", "write it as Hugging Face's chat templates are") if reason else ("", "")


def _not_jinja(text: str) -> str:
    # Imported here: most specs have no template of their own.
    from jinja2 import TemplateSyntaxError

    try:
        _environment().parse(text)
    except TemplateSyntaxError as wrong:
        return f"line {wrong.lineno}: {visible(shortened(wrong.message or 'it breaks off', _LONGEST_REASON))}"
    except RecursionError:
        return "it is nested too deeply"
    # Of a number with too many digits.
    except ValueError as wrong:
        return visible(shortened(str(wrong), _LONGEST_REASON))
    return ""


def _environment() -> ImmutableSandboxedEnvironment:
    """Knows the tags that transformers' templates have (transformers 5, `utils/chat_template_utils.py`)."""
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`, around what the assistant says."""

        tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
