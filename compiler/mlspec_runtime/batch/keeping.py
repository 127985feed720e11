"""What the output keeps of the input."""

from __future__ import annotations

from collections.abc import Sequence

from mlspec_runtime.batch.columns import Column
from mlspec_runtime.batch.faults import BatchError
from mlspec_runtime.batch.sources import Source


def kept_columns(source: Source, asked: Sequence[str] | None, names: Sequence[str] | None) -> tuple[Column, ...]:
    """Raises BatchError: the input has no such column."""
    wanted = source.usual_keep if asked is None else asked
    for name in wanted or ():
        if names is not None and name not in names:
            raise BatchError("columns", f"--keep {name}: the input has no such column", f"it has {', '.join(names)}")
    return tuple(Column(name, "kept", arrow=_arrow(source, name, names)) for name in wanted or ())


def _arrow(source: Source, name: str, names: Sequence[str] | None) -> object:
    return source.arrow_type(name) if names is not None else None
