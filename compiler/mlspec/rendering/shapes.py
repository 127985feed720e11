"""What must be equal in a file whatever strings a spec holds: its shape.

Each file is rendered twice, with the spec's strings and with neutral ones. A string that became code, an instruction
or a line of its own changes the shape.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

Shape = tuple[Any, ...]


def shape(name: str, text: str) -> Shape:
    """The shape of a file by its name.

    Raises:
        SyntaxError: Python that doesn't parse.
    """
    return _of(PurePosixPath(name).name)(text)


def _of(name: str) -> Callable[[str], Shape]:
    if name.endswith(".py"):
        return python_shape
    if name == "Dockerfile" or name.endswith(".Dockerfile"):
        return dockerfile_shape
    return line_shape


def lacks(name: str, text: str) -> str:
    """The instruction that a Dockerfile needs and hasn't; nothing for other files."""
    if _of(PurePosixPath(name).name) is not dockerfile_shape:
        return ""
    instructions = dockerfile_shape(text)
    needed = (("FROM",), ("CMD", "ENTRYPOINT"))
    return next((one[0] for one in needed if not set(one) & set(instructions)), "")


def python_shape(text: str) -> Shape:
    """The syntax tree with each constant replaced by its type."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = type(node.value).__name__
    return (ast.dump(tree), text.count("\n"))


def dockerfile_shape(text: str) -> Shape:
    """The instructions in order, a continued line counted with its first."""
    joined = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in joined.splitlines()]
    return tuple(line.split(None, 1)[0].upper() if line else "" for line in lines)


def line_shape(text: str) -> Shape:
    """What each line of a Markdown or plain file begins with: a heading, fence, list, table or text."""
    return tuple(_beginning(line) for line in text.split("\n"))


def _beginning(line: str) -> str:
    found = re.match(r"\s*(#+|```+|~~~+|[-*+>|]|\d+\.)?", line)
    return (found.group(1) or "text") if found and line.strip() else ""
