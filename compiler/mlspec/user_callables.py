"""How the service will call what the user's Python files define, as their text tells it; nothing is run.

What the text can't tell (a name that is given twice, a decorator, a base from elsewhere) is believed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.suggest import listed
from mlspec.user_code import bound_names, parsed

if TYPE_CHECKING:
    import ast

    from mlspec.runners import Faults

    _Function = ast.FunctionDef | ast.AsyncFunctionDef


def check_order(file: Path, name: str, method: str, inputs: Sequence[str], faults: Faults) -> None:
    """That inputs which the class's method names are declared in its order, as it gets them by position.

    Raises OSError.
    """
    found = _method(file, name, method)
    if found is None or found.decorator_list:
        return
    takes = [argument.arg for argument in (*found.args.posonlyargs, *found.args.args)][1:]
    if set(inputs) <= set(takes) and list(inputs) != takes[: len(inputs)]:
        message = f"{name}.{method} takes {', '.join(takes)}, and gets the inputs by position: {', '.join(inputs)}"
        help = f"declare the inputs in the order of {method}, or put its other arguments last"
        faults.error("wrong-signature", message, ("inputs",), help=help)


def check_has_one(file: Path, name: str, methods: Collection[str], faults: Faults) -> None:
    """That the class has one of these methods; a warning where a base from elsewhere may have it. Raises OSError."""
    import ast

    tree = parsed(file)
    found = None if isinstance(tree, str) else _only(tree, name)
    if isinstance(tree, str) or not isinstance(found, ast.ClassDef) or found.decorator_list or found.keywords:
        return
    family = list(_family(tree, found))
    if any(set(methods) & set(_members(one)) or "__getattr__" in _members(one) for one in family if one):
        return
    message = f"{name} has no method {listed(sorted(methods), 'or')}"
    if None in family:
        faults.warning("name-missing", message, ("class",), help="the service starts if a base from elsewhere has one")
    else:
        faults.error("name-missing", message, ("class",), help=f"give it one: def {min(methods)}(self, inputs): …")


def check_function(file: Path, name: str, pointer: Pointer, faults: Faults) -> None:
    """That the module's function can be called with one argument, and gives its answer at once. Raises OSError."""
    import ast

    tree = parsed(file)
    found = None if isinstance(tree, str) else _only(tree, name)
    told = None
    if isinstance(found, ast.ClassDef):
        told = "is a class"
    elif isinstance(found, ast.AsyncFunctionDef):
        told = "is an async def"
    elif isinstance(found, ast.FunctionDef) and not found.decorator_list and not _takes_one(found.args):
        told = f"takes ({ast.unparse(found.args)})"
    if told:
        help = f"it is called with the arrays by their names, and gives such: def {name}(arrays): …"
        faults.error("bad-step", f"function: {quoted(name)} {told}", pointer, help=help)


def _takes_one(arguments: ast.arguments) -> bool:
    places = len(arguments.posonlyargs) + len(arguments.args)
    needed = places - len(arguments.defaults)
    return needed <= 1 and (places > 0 or arguments.vararg is not None) and None not in arguments.kw_defaults


def _method(file: Path, name: str, method: str) -> _Function | None:
    """The class's method, or that of the first of its bases in the same module that has it."""
    import ast

    tree = parsed(file)
    found = None if isinstance(tree, str) else _only(tree, name)
    if isinstance(tree, str) or not isinstance(found, ast.ClassDef):
        return None
    for one in _family(tree, found):
        if one is None or method in _members(one):
            member = one and _only(one, method)
            return member if isinstance(member, ast.FunctionDef) else None
    return None


def _only(scope: ast.Module | ast.ClassDef, name: str) -> ast.stmt | None:
    """What defines the name in a module or class, if nothing else there gives it a value."""
    import ast

    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in scope.body if isinstance(node, kinds) and node.name == name]
    return found[0] if len(found) == 1 == list(bound_names(scope.body)).count(name) else None


def _family(tree: ast.Module, node: ast.ClassDef) -> Iterator[ast.ClassDef | None]:
    """The class and its bases, as deep as the module has them; None for each that can't be told."""
    import ast

    waiting: list[ast.stmt | None] = [node]
    seen = set()
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, ast.ClassDef):
            yield None
        elif one.name not in seen:
            seen.add(one.name)
            yield one
            names = [base.id if isinstance(base, ast.Name) else "" for base in one.bases]
            waiting = [*(_only(tree, base) for base in names if base != "object"), *waiting]


def _members(node: ast.ClassDef) -> set[str]:
    """The names in a class's body, and those that its methods set of it."""
    import ast

    stores = (n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
    return {*bound_names(node.body), *stores}
