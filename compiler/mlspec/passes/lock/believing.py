"""What a lock says of a spec's models: believed of those that aren't here, compared with those that are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mlspec.characters import quoted
from mlspec.diagnostics import Report
from mlspec.looking import kind_of
from mlspec.model.facts import Facts, ModelFacts, ModelFile, ModelRef
from mlspec.model.lock import Lock, LockedModel, json_data
from mlspec.model_files import BadModelFileError, fingerprint
from mlspec.runners import Faults, Runner
from mlspec.suggest import listed

_NOT_HERE = {"model-not-found", "model-not-fetched", "root-unbound"}
_POINTER_OF_LFS = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER_BYTES = 1024


@runtime_checkable
class Believer(Protocol):
    """A runner that knows what its facts look like."""

    def believe(self, ref: ModelRef, details: Mapping[str, Any]) -> None:
        """That details from a lock are as `inspect` makes them.

        Raises:
            ValueError: they aren't: no plan can be made of them. The message says where.
        """


def believable(lock: Lock, refs: Sequence[ModelRef], runner: Runner, faults: Faults, spec: str) -> bool:
    """Whether what the lock says of these models, which it covers, can be planned with; a fault for each that can't."""
    if not isinstance(runner, Believer):
        return True
    whole = True
    for ref in refs:
        locked = lock.of(ref.role)
        try:
            if locked is not None:
                runner.believe(ref, locked.details)
        except ValueError as problem:
            message = f"{ref.role}: what the lock says of it is of no use: {problem}"
            faults.error("bad-lock", message, ref.pointer, help=f"write the lock anew: mlspec lock {spec}")
            whole = False
    return whole


def covers(lock: Lock, refs: Sequence[ModelRef], faults: Faults, spec: str) -> bool:
    """Whether the lock is of these models; a fault for each that it doesn't know, and for those no longer named."""
    help, whole = f"write the lock anew: mlspec lock {spec}", True
    for ref in refs:
        locked = lock.of(ref.role)
        if locked is None or locked.source != ref.source.key():
            why = "isn't in the lock" if locked is None else "comes from another place than the lock says"
            faults.error("lock-stale", f"{ref.role} {why}", ref.pointer, help=help)
            whole = False
    if gone := [model.role for model in lock.models if model.role not in {ref.role for ref in refs}]:
        faults.error(
            "lock-stale", f"the lock holds {listed(map(quoted, gone))}, which this spec doesn't name", help=help
        )
    return whole and not gone


def only_absent(found: Report) -> bool:
    """Whether looking for a model told no more than that it isn't on this computer."""
    return all(fault.code in _NOT_HERE for fault in found)


def lacks_weights(model: LockedModel, folder: Path) -> bool:
    """Whether a folder holds none of the model's weights, as a clone of a repository that leaves them out."""
    weights = [file.path for file in model.files if file.hashed == "header"]
    return bool(weights) and not any(_is_here(folder / path) for path in weights)


def _is_here(path: Path) -> bool:
    """Whether there is a file with its content: Git LFS leaves a note in the place of one that wasn't fetched."""
    try:
        if kind_of(path) != "file":
            return False
        if path.stat().st_size > _LONGEST_POINTER_BYTES:
            return True
        with path.open("rb") as file:
            return not file.read(len(_POINTER_OF_LFS)).startswith(_POINTER_OF_LFS)
    except OSError:
        return True  # inspecting it says what is wrong


def check_rest(model: LockedModel, ref: ModelRef, folder: Path, faults: Faults, spec: str) -> None:
    """Compare those files that are there of a model without its weights."""
    here = [file for file in model.files if _is_here(folder / file.path)]
    try:
        _compare(here, fingerprint(folder, [file.path for file in here]), ref, faults, spec)
    except BadModelFileError as problem:
        faults.error("bad-model-file", f"{ref.role}: {problem}", ref.pointer, help="bring the file back")


def locked_facts(
    lock: Lock, refs: Sequence[ModelRef], inspected: Iterable[ModelFacts], faults: Faults, spec: str
) -> Facts:
    """The facts of all models as the lock has them; a fault for each that was inspected and is another one.

    Those that were inspected are taken from the lock, too: so a plan is the same where there was nothing to inspect.
    """
    for facts in inspected:
        locked = lock.of(facts.ref.role)
        if locked is not None:
            _check(locked, facts, faults, spec)
    return Facts(tuple(locked.facts(ref) for ref in refs if (locked := lock.of(ref.role)) is not None))


def _check(locked: LockedModel, facts: ModelFacts, faults: Faults, spec: str) -> None:
    if not _compare(locked.files, facts.files, facts.ref, faults, spec):
        return
    found = {"parameter_bytes": facts.parameter_bytes, **json_data(facts.details)}
    known = {"parameter_bytes": locked.parameter_bytes, **locked.details}
    if differing := sorted(key for key in found.keys() | known.keys() if found.get(key) != known.get(key)):
        message = f"its files are those of the lock, but not what is read of them: {listed(map(quoted, differing))}"
        help = f"the lock is of another version of mlspec: mlspec lock {spec}"
        faults.error("lock-mismatch", f"{facts.ref.role}: {message}", facts.ref.pointer, help=help)


def _compare(locked: Iterable[ModelFile], found: Iterable[ModelFile], ref: ModelRef, faults: Faults, spec: str) -> bool:
    """Whether the files are the same; a fault that names the first that isn't."""
    before, now = ({file.path: file for file in files} for files in (locked, found))
    for path in sorted(before.keys() | now.keys()):
        if before.get(path) != now.get(path):
            message = f"{ref.role}: {quoted(path)} {_difference(before.get(path), now.get(path))}"
            help = f"bring the locked model back, or lock this one: mlspec lock {spec}"
            faults.error("lock-mismatch", message, ref.pointer, help=help)
            return False
    return True


def _difference(before: ModelFile | None, now: ModelFile | None) -> str:
    if before is None or now is None:
        return "isn't in the lock" if before is None else "is in the lock, but not in the folder"
    if before.size_bytes != now.size_bytes:
        return f"has {now.size_bytes:,} bytes, {before.size_bytes:,} in the lock"
    return f"has another {now.hashed} than the lock says (sha256 {now.sha256[:12]}…, not {before.sha256[:12]}…)"
