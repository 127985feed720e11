"""lock: what was committed of a spec's models, believed where they aren't and held against them where they are."""

from __future__ import annotations

from mlspec.passes.lock.believing import check_rest, covers, lacks_weights, locked_facts, only_absent
from mlspec.passes.lock.reading import lock_path, read_lock

__all__ = ["check_rest", "covers", "lacks_weights", "lock_path", "locked_facts", "only_absent", "read_lock"]
