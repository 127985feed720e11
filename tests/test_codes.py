"""Each code has its page, and each code of load and validate its bad spec."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlspec
from mlspec import codes
from mlspec.diagnostics import Report
from mlspec.passes.load import parse
from mlspec.resources import folder

PACKAGE = Path(mlspec.__file__).parent
BAD = Path(__file__).parent / "bad"
REPORTS = {"error", "warning", "Diagnostic", "CommandError", "UnfitError", "UserFileError"}
REPORTS |= {"_error", "_stop", "_fault"}
"""What takes a code as its first argument."""
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
COMPUTED = {"unknown-runner", "unknown-backend", "text-length", "bad-value"}
WITHOUT_A_SPEC = {"file-not-found", "not-a-file", "file-unreadable", "file-too-large", "broken-plugin", "bad-value"}
"""Codes whose fault no text file can have: tests of their own make them."""


def codes_in(*folders: Path) -> set[str]:
    files = [file for folder in folders for file in (folder.rglob("*.py") if folder.is_dir() else [folder])]
    return {code for file in files for code in _codes(ast.parse(file.read_text(encoding="utf-8")))}


def _codes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _name(node.func) in REPORTS:
            first = node.args[0]
            if isinstance(first, ast.Constant) and _CODE.fullmatch(str(first.value)):
                yield first.value


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


IN_SOURCE = codes_in(PACKAGE) | COMPUTED
IN_SCHEMA = set(
    re.findall(r'"x-mlspec-code": "([a-z-]+)"', "".join(p.read_text() for p in folder("schema").glob("*.json")))
)
HERE = [PACKAGE / "passes" / "load", PACKAGE / "passes" / "validate", *PACKAGE.glob("runners/*/model.py")]


@pytest.mark.parametrize("code", sorted(IN_SOURCE | IN_SCHEMA))
def test_each_code_has_a_page(code: str) -> None:
    page = codes.explain(code)
    assert page is not None, f"compiler/mlspec/codes/{code}.md is missing"
    assert page.startswith("# ")
    assert len(page.splitlines()) >= 3
    assert page.count("```") % 2 == 0


def test_each_page_has_a_code() -> None:
    assert set(codes.known()) <= IN_SOURCE | IN_SCHEMA


@pytest.mark.parametrize("code", sorted((codes_in(*HERE) | COMPUTED | IN_SCHEMA) - WITHOUT_A_SPEC))
def test_each_code_of_a_spec_has_a_bad_spec(code: str) -> None:
    assert any(f"[{code}]" in path.read_text(encoding="utf-8") for path in BAD.glob("*.txt"))


@pytest.mark.parametrize("code", codes.known())
def test_what_a_page_calls_right_is_yaml(code: str) -> None:
    page = codes.explain(code) or ""
    for text in re.findall(r"(?:Right|For example):\n\n```yaml\n(.*?)```", page, re.DOTALL):
        report = Report()
        parse(re.sub(r"\*\w+", "x", text), Path(code), code, report)
        assert not list(report)


def test_an_unknown_code() -> None:
    assert codes.explain("no-such-code") is None
    assert codes.explain("../__init__") is None
