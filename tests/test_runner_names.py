"""Nothing outside of `runners/` knows a runner by its name: checked on the syntax trees of code and templates."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, nodes

import mlspec
import mlspec_runtime
from mlspec import plugins
from mlspec.rendering.environment import environment
from mlspec.resources import folder

PACKAGES = [Path(module.__file__).parent for module in (mlspec, mlspec_runtime)]
FOLDERS = sorted(file.parent.name for file in (PACKAGES[0] / "runners").glob("*/build.py"))
NAMES = {*plugins.names("runners"), *FOLDERS}
"""As specs say them, and as their folders are called."""
ALSO_OTHER_THINGS = {"python", "mlx", "torch", "onnx", "pipeline"}
"""Names that are modules, programs and keys, too: what is compared with them must be a runner's name to be a fault."""
OF_A_RUNNER = re.compile(r"runner", re.IGNORECASE)


def files() -> list[Path]:
    found = ((package, file) for package in PACKAGES for file in package.rglob("*.py"))
    return sorted(file for package, file in found if file.relative_to(package).parts[0] != "runners")


def decides(tree: ast.AST) -> Iterator[str]:
    """What in a syntax tree knows a runner: imports of its folder, comparisons and tables with its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"line {node.lineno}: imports {name}" for name in _imported(node) if _is_a_runners(name))
        elif isinstance(node, ast.Compare):
            yield from _compared(node, node.left, *node.comparators)
        elif isinstance(node, ast.Match):
            cases = [one.value for one in ast.walk(node) if isinstance(one, ast.MatchValue)]
            yield from _compared(node, node.subject, *cases)
        elif isinstance(node, ast.Subscript):
            yield from _compared(node, node.slice, node.value)
        elif isinstance(node, ast.Call):
            yield from _called(node)
        elif isinstance(node, ast.Dict):
            yield from _tabled(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_a_runners(node.value):
            yield f"line {node.lineno}: names {node.value}"


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    else:
        yield from (alias.name for alias in node.names)


def _is_a_runners(module: str) -> bool:
    return bool(re.fullmatch(rf"(mlspec|mlspec_runtime)\.runners\.({'|'.join(FOLDERS)})(\..*)?", module))


def _compared(node: ast.expr | ast.Match, *parts: ast.expr) -> Iterator[str]:
    """A name of a runner among the constants of an expression, where it can be meant as one."""
    found = {one.value for part in parts for one in ast.walk(part) if isinstance(one, ast.Constant)} & NAMES
    text = " ".join(map(ast.unparse, parts))
    if found - ALSO_OTHER_THINGS or (found and OF_A_RUNNER.search(text)):
        yield f"line {node.lineno}: {text} decides by {', '.join(sorted(map(str, found)))}"


def _called(node: ast.Call) -> Iterator[str]:
    """`find("torch")`, `name.startswith("mlx")`, `TABLE.get(...)` of a table with runners' names."""
    name = ast.unparse(node.func)
    if re.search(r"(^|\.)(find|import_module)$", name) or name.endswith((".startswith", ".endswith", ".get")):
        yield from _compared(node, node.func, *node.args)


def _tabled(node: ast.Dict) -> Iterator[str]:
    """A table with an entry for one that is only a runner, or for several that may be."""
    found = {key.value for key in node.keys if isinstance(key, ast.Constant)} & NAMES
    if found - ALSO_OTHER_THINGS or len(found) > 1:
        yield f"line {node.lineno}: a table with {', '.join(sorted(map(str, found)))}"


@pytest.mark.parametrize("file", files(), ids=lambda file: file.relative_to(file.parents[2]).as_posix())
def test_no_code_decides_by_a_runners_name(file: Path) -> None:
    assert list(decides(ast.parse(file.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("file", sorted(folder("templates").rglob("*.j2")), ids=lambda file: file.name)
def test_no_template_decides_by_a_runners_name(file: Path) -> None:
    made: Environment = environment(folder("templates"))
    tree = made.parse(file.read_text(encoding="utf-8"))
    compared = (const for node in tree.find_all((nodes.Compare, nodes.Getitem)) for const in node.find_all(nodes.Const))
    assert {const.value for const in compared} & NAMES == set()


def test_all_runners_are_looked_for() -> None:
    assert {"mlx-lm", "mlx_lm", "lora", "python", "torch"} <= NAMES
    assert len(files()) > 200


@pytest.mark.parametrize(
    "code",
    [
        "if spec.runner == 'torch': pass",
        "if 'mlx-lm' == x: pass",
        "y = x in ('lora', 'b')",
        "y = x != 'lora'",
        "y = spec.runner in {'python': 1}",
        "match runner:\n    case 'python': pass",
        "match x:\n    case 'lora' | 'a': pass",
        "y = {'mlx-lm': 1}[x]",
        "y = {'mlx-lm': 1}.get(x)",
        "y = runners.find('python')",
        "y = runner.name.startswith('mlx')",
        "from mlspec.runners.torch import build",
        "from mlspec.runners import mlx_lm",
        "import mlspec.runners.mlx_lm.facts as f",
        "y = import_module('mlspec.runners.' + 'lora')",
        "y = import_module('mlspec.runners.torch.build')",
        "MODULE = 'mlspec_runtime.runners.mlx_lm'",
        "TABLE = {'torch': 1, 'onnx': 2}",
        "TABLE = {'lora': 1}",
    ],
)
def test_what_decides_is_found(code: str) -> None:
    assert list(decides(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "if key == 'python': pass",
        "import torch",
        "from mlspec.runners import Runner",
        "y = importlib.import_module('torch')",
        "if kind in ('mlx', 'other'): pass",
        "y = 'mlx-lm'",
    ],
)
def test_what_does_not_is_none(code: str) -> None:
    assert list(decides(ast.parse(code))) == []
