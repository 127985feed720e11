"""A lock's making, and its text: YAML in flow style, so JSON below a comment. One row a line, to be reviewed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mlspec.digests import Digests
from mlspec.model.facts import Facts, Located, ModelRef
from mlspec.model.lock import Lock, locked
from mlspec.runners import Faults

_HEADER = """\
# Written by `mlspec lock {spec}`: what is known of the spec's models without their weights.
# Commit it, and write it anew when a model changes; a change by hand is refused.
"""
_LONGEST_ROW = 240


def make_lock(spec: str, facts: Facts, located: Iterable[Located], digests: Digests) -> Lock:
    """The lock of models that were inspected, for the spec's file of this name. Reads their weights.

    Raises:
        OSError: a file can't be read.
        CommandError: one changed while it was read.
    """
    contents = {found.ref.role: digests.of_model(found.folder, facts.of(found.ref.role).files) for found in located}
    return Lock(spec, tuple(locked(model, contents[model.ref.role]) for model in facts.models))


def check_contents(lock: Lock, located: Iterable[Located], digests: Digests, faults: Faults, spec: str) -> None:
    """Compare the weights of the models that are here with the lock. Reads them, and raises as `make_lock`."""
    for found in located:
        model = lock.of(found.ref.role)
        if model is not None and digests.of_model(found.folder, model.files) != model.content:
            report_other_weights(found.ref, faults, spec)


def report_other_weights(ref: ModelRef, faults: Faults, spec: str) -> None:
    help = f"bring the locked model back, or lock this one: mlspec lock {spec}"
    faults.error("lock-mismatch", f"{ref.role}: its weights aren't those of the lock", ref.pointer, help=help)


def lock_text(lock: Lock) -> str:
    """The text of a lock. Equal locks give equal texts."""
    name = json.dumps(lock.spec)[1:-1]  # one line, whatever the name
    return f"{_HEADER.format(spec=name)}{_laid_out(lock.as_data(), '')}\n"


def _laid_out(value: Any, indent: str) -> str:
    """On one line if it is a short row, else a line for each part."""
    row = json.dumps(value, allow_nan=False)
    if not isinstance(value, dict | list) or (len(row) <= _LONGEST_ROW and not _is_table(value)):
        return row
    inner = indent + "  "
    if isinstance(value, list):
        parts = [f"{inner}{_laid_out(item, inner)}" for item in value]
    else:
        parts = [f"{inner}{json.dumps(key)}: {_laid_out(part, inner)}" for key, part in value.items()]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return opening + "\n" + ",\n".join(parts) + "\n" + indent + closing


def _is_table(value: dict[str, Any] | list[Any]) -> bool:
    """A list of rows: each has a line of its own, so that a changed one is one line of a difference."""
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
