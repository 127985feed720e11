"""The Jinja environment: sandboxed, strict, and closed to values that passed no filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, FileSystemBytecodeCache, StrictUndefined, TemplateNotFound
from jinja2.bccache import Bucket
from jinja2.loaders import split_template_path
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mlspec import __version__
from mlspec.rendering.filters import FILTERS, Safe, UnsafeValueError

BUILT_IN = "!builtin/"
"""Prefix by which a user's template names the built-in one that it extends."""

# Filters of Jinja that only reorder or select. Those that make text (format, replace, safe, tojson …) are left out.
_KEPT_FILTERS: tuple[str, ...] = (
    "batch",
    "default",
    "dictsort",
    "first",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
)
_KEPT_FILTERS += ("reject", "rejectattr", "select", "selectattr", "slice", "sort", "unique", "upper")


class TemplateFolders(BaseLoader):
    """The user's templates before the built-in ones; `!builtin/NAME` always means the built-in one."""

    def __init__(self, built_in: Path, user: Path | None) -> None:
        self._built_in, self._user = built_in, user

    def get_source(self, environment: Any, template: str) -> tuple[str, str, Callable[[], bool]]:
        path = self.path(template)
        if path is None:
            raise TemplateNotFound(template)
        return path.read_text(encoding="utf-8"), str(path), lambda: True

    def path(self, template: str) -> Path | None:
        """The file of a template's name, None if there is none."""
        only_built_in = template.startswith(BUILT_IN)
        parts = split_template_path(template.removeprefix(BUILT_IN))
        folders = (None if only_built_in else self._user, self._built_in)
        files = (folder.joinpath(*parts) for folder in folders if folder is not None)
        return next((file for file in files if file.is_file()), None)


class _Environment(ImmutableSandboxedEnvironment):
    """What blocks, macros and `super()` put together consists of finished output: it is `Safe` again.

    A template has nothing to multiply: that could only make it endless.
    """

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        raise UnsafeValueError(f"templates have no operator {operator}")

    @staticmethod
    def concat(parts: Iterable[str]) -> str:
        return Safe("".join(parts))


class _Kept(FileSystemBytecodeCache):
    """Compiled templates on disk. It only saves time: where that fails, a template is compiled again."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            super().dump_bytecode(bucket)


def environment(built_in: Path, user: Path | None = None, cache: Path | None = None) -> _Environment:
    """An environment over these template folders; `cache` keeps compiled templates between builds."""
    made = _Environment(
        loader=TemplateFolders(built_in, user),
        undefined=StrictUndefined,
        finalize=_finalize,
        bytecode_cache=_bytecode_cache(cache),
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    ours = {name: _of_defined_values(made_safe) for name, made_safe in FILTERS.items()}
    made.filters = {name: made.filters[name] for name in _KEPT_FILTERS} | ours
    made.globals = {"range": made.globals["range"]}
    return made


def _of_defined_values(made_safe: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The filter, which says of a variable that isn't there just that."""

    def checked(value: Any) -> Any:
        if isinstance(value, StrictUndefined):
            str(value)
        return made_safe(value)

    return checked


def _finalize(value: Any) -> Safe:
    if isinstance(value, StrictUndefined):
        str(value)
    if not isinstance(value, Safe):
        names = ", ".join(sorted(FILTERS))
        raise UnsafeValueError(f"a value of type {type(value).__name__} passed no filter for its language ({names})")
    return value


def _bytecode_cache(folder: Path | None) -> FileSystemBytecodeCache | None:
    """A cache in the user's own folder; none where that can't be made or isn't the user's."""
    if folder is None:
        return None
    own = folder / __version__
    try:
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    return _Kept(str(own))
