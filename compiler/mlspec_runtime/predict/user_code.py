"""Importing the user's classes and functions from their files in the bundle."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlspec_runtime.errors import ServiceError

PROJECT = "user"
"""The bundle's folder with the files of the user's project, by their paths in it."""
_PLAN = "plan.json"


def user_class(path: Path, name: str) -> Any:
    """The class of this name in the file.

    The file's folder and the project's root can be imported from, as if the file were run there. In a package (its
    folder has an `__init__.py`) the file is a module of it, and may import relatively.

    Raises ServiceError if there is no such file or class, and whatever the file raises.
    """
    return _named(path, name, "class")


def user_function(path: Path, name: str) -> Callable[..., Any]:
    """The function of this name in the file; for the rest as `user_class`."""
    found: Callable[..., Any] = _named(path, name, "function")
    return found


def _named(path: Path, name: str, kind: str) -> Any:
    found = getattr(_module(path), name, None)
    if not callable(found):
        raise _failed(f"{path.name} has no {kind} {name}; correct the spec or the module")
    return found


def _module(path: Path) -> Any:
    if not path.is_file():
        raise _failed(f"there is no {path.name} in the bundle; build again")
    root = _root(path)
    start, parts = _package(path, root)
    for place in dict.fromkeys((path.parent, start, root)):
        if str(place) not in sys.path:
            # After those of another module of the user's, before all that is installed.
            sys.path.insert(sum(_is_ours(entry, root) for entry in sys.path), str(place))
    return _of_package(path, parts) if len(parts) > 1 else _alone(path)


def _is_ours(entry: str, root: Path) -> bool:
    return bool(entry) and Path(entry).is_relative_to(root)


def _root(path: Path) -> Path:
    """The root of the user's project in the bundle; outside of a bundle the file's own folder."""
    for place in path.parents:
        if place.name == PROJECT and (place.parent / _PLAN).is_file():
            return place
    return path.parent


def _package(path: Path, root: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that the outermost package of the file is in, and the names that lead from there to the file."""
    start = path.parent
    while start != root and start.is_relative_to(root) and (start / "__init__.py").is_file():
        start = start.parent
    return start, path.relative_to(start).with_suffix("").parts


def _of_package(path: Path, parts: tuple[str, ...]) -> Any:
    """The file as a module of its package, by its own name: the package may import it, too."""
    top, outermost = parts[0], path.parents[len(parts) - 2] / "__init__.py"
    loaded = sys.modules.get(top) or importlib.import_module(top)
    if not _is_from(loaded, outermost):
        where = getattr(loaded, "__file__", None) or "Python's own"
        raise _failed(f"the package {top} of {path.name} is called as another one is ({where}); rename it")
    return importlib.import_module(".".join(parts))


def _alone(path: Path) -> Any:
    name = _own_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _failed(f"{path.name} is no Python module; correct the spec")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _own_name(path: Path) -> str:
    """A name that no other module has: the file may be called as one is, or as another of the user's."""
    name = f"mlspec_user_{path.stem}"
    number = 1
    while name in sys.modules and not _is_from(sys.modules[name], path):
        number += 1
        name = f"mlspec_user_{path.stem}_{number}"
    return name


def _is_from(module: Any, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).exists() and path.samefile(file)


def _failed(message: str) -> ServiceError:
    return ServiceError("load_failed", message, 503)
