"""The user's Python files as a build sees them: parsed, never run."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from mlspec.characters import quoted, shortened, visible
from mlspec.diagnostics import Report
from mlspec.looking import kind_of
from mlspec.model.document import Document, Pointer
from mlspec.suggest import did_you_mean, listed

if TYPE_CHECKING:
    import ast

    from mlspec.runners import Faults

_LARGEST_BYTES = 1024 * 1024
"""Of a file that is parsed: code that people write is smaller."""
_LONGEST_REASON = 200
_MOST_NAMES = 5


def check_name(file: Path, name: str, kind: Literal["class", "function"], pointer: Pointer, faults: Faults) -> None:
    """That a module of the user's has a class or function of this name, where its text can tell. Raises OSError."""
    tree = parsed(file)
    if isinstance(tree, str):
        return
    bound = set(bound_names(tree.body))
    if name in bound or "*" in bound or "__getattr__" in bound:
        return
    here = sorted(node.name for node in tree.body if type(node).__name__ in _NODES[kind] and hasattr(node, "name"))
    help = did_you_mean(name, bound) or f"it has {listed(here[:_MOST_NAMES]) if here else f'no {kind} at all'}"
    faults.error("name-missing", f"{visible(file.name)} has no {kind} {quoted(name)}", pointer, help=help)


def check_imports(root: Path, found: Mapping[Pointer, Mapping[str, Path]], document: Document, report: Report) -> None:
    """That the modules of a bundle find in it what they import of the project; `found` are its files by their paths in
    the project, and by where the spec names them. Only imports that always run are looked at.
    """
    bundled = {path for files in found.values() for path in files}
    entries = {path for pointer, files in found.items() if not isinstance(pointer[-1], int) for path in files}
    bundle = _Bundle(root, frozenset(bundled), frozenset(entries))
    checked: set[str] = set()
    for pointer, files in found.items():
        own = Report()
        for path, file in files.items():
            if path.endswith(".py") and path not in checked:
                checked.add(path)
                _check_module(path, file, bundle, document, pointer, own)
        report.extend(own)


class _Bundle:
    """The project's files that go into a bundle; `entries` are the modules that a spec names."""

    def __init__(self, root: Path, files: frozenset[str], entries: frozenset[str]) -> None:
        self._root, self._files, self._entries = root, files, entries
        self._starts = (*sorted({PurePosixPath(entry).parent for entry in entries}), PurePosixPath())

    def lacks(self, stems: Iterable[PurePosixPath]) -> str | None:
        """The first file of these modules that the project has and the bundle hasn't."""
        files = (f"{stem}{end}" for stem in stems for end in (".py", "/__init__.py"))
        return next((path for path in files if path not in self._files and self._is_there(path)), None)

    def lacks_absolute(self, names: Iterable[tuple[str, ...]]) -> str | None:
        """The same of modules that are imported by their whole names; None if one of the places has them."""
        modules = list(names)
        lacking = None
        for start in self._starts:
            stems = [start.joinpath(*name) for name in modules]
            if (missing := self.lacks(stems)) is None and self._has(stems):
                return None
            lacking = lacking or missing
        return lacking

    def is_in_no_package(self, path: str) -> bool:
        """Whether a module that a spec names can't import relatively."""
        return path in self._entries and f"{PurePosixPath(path).parent}/__init__.py" not in self._files

    def _has(self, stems: Iterable[PurePosixPath]) -> bool:
        return any(f"{stem}{end}" in self._files for stem in stems for end in (".py", "/__init__.py"))

    def _is_there(self, path: str) -> bool:
        try:
            return kind_of(self._root / path) == "file"
        except OSError:  # it can't be seen, and so not named either
            return False


def _check_module(path: str, file: Path, bundle: _Bundle, document: Document, pointer: Pointer, report: Report) -> None:
    span, tree = document.value_span(pointer), parsed(file)
    if isinstance(tree, str):
        help = "the service will not start if Python can't read it either"
        report.warning("python-syntax", f"'{visible(path)}' {tree}", span, help=help)
        return
    for level, names in _imports(tree.body):
        if level and bundle.is_in_no_package(path):
            help = "put an __init__.py into its folder, and name the folder in files"
            message = f"'{path}' imports from its own package, and is in none: its folder has no __init__.py here"
            report.error("not-in-bundle", message, span, help=help)
            return
        if level and (missing := bundle.lacks(_relative(path, level, names))):
            help = f"name it in files, or its folder '{PurePosixPath(missing).parent}'"
            report.error("not-in-bundle", f"'{path}' imports '{missing}', which isn't named", span, help=help)
        elif not level and (missing := bundle.lacks_absolute(names)):
            help = f"name it in files, unless an installed package '{names[0][0]}' is meant"
            report.warning("not-in-bundle", f"'{path}' imports '{missing}', which isn't named", span, help=help)


def _relative(path: str, level: int, names: Iterable[tuple[str, ...]]) -> Iterator[PurePosixPath]:
    parents = PurePosixPath(path).parents
    if level <= len(parents):
        yield from (parents[level - 1].joinpath(*name) for name in names if name)


def _imports(body: list[ast.stmt]) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    """How many dots each import begins with, and the modules that it may load: each name, and what it names within."""
    import ast

    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = tuple(alias.name.split("."))
                if parts[0] not in sys.stdlib_module_names:
                    yield 0, [parts[: n + 1] for n in range(len(parts))]
        elif isinstance(node, ast.ImportFrom):
            parts = tuple((node.module or "").split(".")) if node.module else ()
            if node.level or parts[0] not in sys.stdlib_module_names:
                outer = [parts[: n + 1] for n in range(len(parts))]
                yield node.level, [*outer, *((*parts, alias.name) for alias in node.names if alias.name != "*")]


_NODES = {"class": ("ClassDef",), "function": ("FunctionDef", "AsyncFunctionDef")}


def bound_names(body: list[ast.stmt]) -> Iterator[str]:
    """The names that a module's statements give to something; `*` for those that can't be told."""
    import ast

    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for statement in body:
        for node in [statement] if isinstance(statement, definitions) else ast.walk(statement):
            if isinstance(node, definitions):
                yield node.name
            elif isinstance(node, ast.alias):
                yield (node.asname or node.name).partition(".")[0]
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def parsed(file: Path) -> ast.Module | str:
    """The module's syntax tree; a text says why there is none. Raises OSError."""
    import ast

    if file.stat().st_size > _LARGEST_BYTES:
        return f"has more than {_LARGEST_BYTES:,} bytes: what it imports isn't looked at"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python's own about the user's text
            return ast.parse(file.read_bytes())
    except SyntaxError as problem:
        line = f" (line {problem.lineno})" if problem.lineno else ""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"is no Python {version}: {shortened(visible(problem.msg), _LONGEST_REASON)}{line}"
    except (ValueError, RecursionError, MemoryError):
        return "can't be parsed"
