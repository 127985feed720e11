"""Whether a file is a pickle, or holds one: told by its content, whatever its name. Nothing is ever unpickled.

Loading a pickle runs what its writer put into it. Known are raw pickles of all protocols (joblib and old PyTorch files
begin as such), the same in what joblib packs, `.npy` arrays of objects, and zip and tar archives with any of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from mlspec.characters import quoted, visible
from mlspec.looking import kind_of
from mlspec.model.facts import ModelRef
from mlspec.model_files import BadModelFileError, tensors
from mlspec.pickles.archives import Member, Unreadable, tar_members, zip_members
from mlspec.pickles.npy import holds_objects, is_npy
from mlspec.pickles.opcodes import is_pickle
from mlspec.pickles.packed import unpacked
from mlspec.runners import Faults

PREFIX_BYTES = 1 << 20
MEMBER_BYTES = 1 << 16
"""That are looked at of packed data, and of each file in an archive: what is a pickle shows it long before."""
_PICKLE_NAMES = (".pkl", ".pickle")
_MOST_LEVELS = 3


def pickle_in(path: Path) -> str | None:
    """What kind of pickle a regular file is or holds, in words that follow "it is"; None if it holds none.

    Reads the beginning, of archives the list of their files and the beginning of each.

    Raises:
        OSError: it can't be read.
    """
    if kind_of(path) != "file" or _is_safetensors(path):
        return None
    with path.open("rb") as file:
        return _kind(file)


def _is_safetensors(path: Path) -> bool:
    """By name and header: nobody opens it as anything else. It may be large, and begin as a pickle could."""
    if path.suffix != ".safetensors":
        return False
    try:
        tensors(path)
    except BadModelFileError:
        return False
    return True


def refuse_pickles(ref: ModelRef, folder: Path, names: Iterable[str], faults: Faults, help: str) -> bool:
    """Report each of these files of a model's folder that is a pickle or holds one; whether there is none.

    Raises:
        OSError: one can't be read.
    """
    found = {name: kind for name in sorted(names) if (kind := pickle_in(folder / name))}
    for name, kind in found.items():
        message = f"{ref.role}: {quoted(name)} is {kind}: loading it could run anything"
        faults.error("pickle", message, ref.pointer, help=help)
    return not found


def _kind(file: BinaryIO, levels: int = _MOST_LEVELS) -> str | None:
    head = _head(file)
    if is_npy(head):
        return "an array of Python objects, which are pickled" if holds_objects(file) else None
    if is_pickle(file):
        return "a pickle"
    if levels == 0:
        return None
    try:
        return _in_archive(file, head, levels) or _in_packed(head, file, levels)
    except Unreadable as problem:
        return f"{problem}, and could hold a pickle"


def _head(file: BinaryIO) -> bytes:
    head = file.read(512)
    file.seek(0)
    return head


def _in_packed(head: bytes, file: BinaryIO, levels: int) -> str | None:
    packed = unpacked(head, file, PREFIX_BYTES)
    if packed is None:
        return None
    how, content = packed
    inside = _kind(BytesIO(content), levels - 1)
    return f"{inside}, packed by {how}" if inside else None


def _in_archive(file: BinaryIO, head: bytes, levels: int) -> str | None:
    for what, members in (("zip", zip_members), ("tar", tar_members)):
        found = _first(members(file, head, MEMBER_BYTES), levels)
        if found is not None:
            return f"a {what} archive with {found}"
    return None


def _first(members: Iterable[Member], levels: int) -> str | None:
    for member in members:
        by_name = "a pickle" if member.name.lower().endswith(_PICKLE_NAMES) else None
        inside = by_name or _kind(BytesIO(member.begin), levels - 1)
        if inside is not None:
            return f"{inside} ({visible(member.name)[:100]})"
    return None
