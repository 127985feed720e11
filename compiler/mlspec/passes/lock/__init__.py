"""lock: what was committed of a spec's models, believed where they aren't and held against them where they are."""

from __future__ import annotations

from mlspec.passes.lock.believing import believable, check_rest, covers, lacks_weights, locked_facts, only_absent
from mlspec.passes.lock.reading import lock_path, may_be_replaced, read_lock

__all__ = [
    "believable",
    "check_rest",
    "covers",
    "lacks_weights",
    "lock_path",
    "locked_facts",
    "may_be_replaced",
    "only_absent",
    "read_lock",
]
