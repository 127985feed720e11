"""Importing the user's class from its file in the bundle."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from mlspec_runtime.errors import ServiceError


def user_class(path: Path, name: str) -> Any:
    """The class of this name in the file. What lies beside the file can be imported, as if the file were run.

    Raises ServiceError if there is no such file or class, and whatever the file raises.
    """
    module = _module(path)
    if not hasattr(module, name):
        raise ServiceError("load_failed", f"{path.name} has no class {name}; correct the spec or the module", 503)
    return getattr(module, name)


def _module(path: Path) -> Any:
    if not path.is_file():
        raise ServiceError("load_failed", f"there is no {path.name} in the bundle; build again", 503)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    # A name of its own: the file may be called as some other module is.
    name = f"mlspec_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ServiceError("load_failed", f"{path.name} is no Python module; correct the spec", 503)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
