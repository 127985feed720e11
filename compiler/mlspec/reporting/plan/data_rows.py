"""Rows of mlspec's own tables as a story quotes them: the value, who says so, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlspec.hardware.tables import row_of, table
from mlspec.reporting.plan.walking import at


@dataclass(frozen=True)
class Row:
    """What stands at a path into a table. `source` and `confidence` are those of the row around it; the confidence is
    `uncertain` where the row says so of the key.
    """

    value: Any
    source: str
    confidence: str


def row(path: str) -> Row | None:
    """What stands at `TABLE/ROW/KEY`; None if no row is there."""
    around = row_of(f"data:{path}")
    if around is None:
        return None
    name, *steps = path.split("/")
    unsure = set(steps) & set(around.get("uncertain", ()))
    confidence = "uncertain" if unsure else str(around.get("confidence", ""))
    return Row(at(table(name), steps), str(around["source"]), confidence)
