"""A model that is one file (or package) in a folder which may hold others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlspec.characters import quoted, shortened
from mlspec.model.facts import ModelRef
from mlspec.runners import Faults
from mlspec.suggest import listed

_MOST_NAMES = 5
_LONGEST_NAME = 80


@dataclass(frozen=True)
class ArtifactRef(ModelRef):
    """`file` is its name in the folder; None: the only one there with one of its format's endings."""

    file: str | None = None


def chosen(ref: ModelRef, folder: Path, endings: Sequence[str], faults: Faults) -> str | None:
    """The name of the model's file or package, which needs not be there if the spec names it; None after a fault was
    reported. Raises OSError.
    """
    named = ref.file if isinstance(ref, ArtifactRef) else None
    if named is not None:
        return named if _fits(named, endings, (*ref.pointer[:-1], "file"), faults) else None
    found = sorted(path.name for path in folder.iterdir() if path.name.endswith(tuple(endings)))
    if len(found) == 1:
        return found[0]
    _report(found, ref, endings, faults)
    return None


def _fits(name: str, endings: Sequence[str], pointer: tuple[str | int, ...], faults: Faults) -> bool:
    if name.endswith(tuple(endings)):
        return True
    message = f"{quoted(name)} is in no format that this runner reads"
    faults.error("model-format", message, pointer, help=f"it reads {listed(endings)}")
    return False


def _report(found: Sequence[str], ref: ModelRef, endings: Sequence[str], faults: Faults) -> None:
    if not found:
        message, help = f"{ref.role}: there is no file ending in {listed(endings, 'or')}", "name the model's folder"
    else:
        shown = [quoted(shortened(name, _LONGEST_NAME)) for name in found[:_MOST_NAMES]]
        more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
        message = f"{ref.role}: {listed(shown)}{more} are there"
        help = "say which one, by the key 'file'"
    faults.error("model-format", message, ref.pointer, help=help)
