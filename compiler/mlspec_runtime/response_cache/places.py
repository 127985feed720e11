"""Where a service's file of answers is, and for which model and settings an answer in it counts."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlspec_runtime.plan import PLAN_FILE, ServiceInfo

CACHE_VARIABLE = "MLSPEC_CACHE_DIR"
_STRANGE = re.compile(r"[^A-Za-z0-9_-]")


def folder_of(service: ServiceInfo, environment: Mapping[str, str]) -> Path:
    """The folder of a service's answers: all that serve it on this computer share it."""
    given = environment.get(CACHE_VARIABLE)
    place = Path(given) if given else Path(environment.get("HOME") or Path.home()) / ".cache" / "mlspec"
    names = (service.project, service.name, service.target)
    return place / "responses" / ".".join(_STRANGE.sub("_", name) for name in names)


def namespace(bundle: Path, models: Mapping[str, Path]) -> bytes:
    """The digest of all that an answer depends on beside its request: the plan (settings, versions of libraries), the
    code that serves, the user's files, and the models, by the size and the date of each of their files, as reading
    their weights would take too long. An answer of another plan, or another model, is never given.
    """
    digest = hashlib.sha256()
    for path in sorted(_read(bundle)):
        _add(digest, path.relative_to(bundle), hashlib.sha256(path.read_bytes()).hexdigest())
    for role, folder in sorted(models.items()):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            stat = path.stat()
            _add(digest, role, path.relative_to(folder), stat.st_size, stat.st_mtime_ns)
    return digest.digest()


def _read(bundle: Path) -> Iterator[Path]:
    """What of a bundle has a say in its answers; its `models` are looked at where they are."""
    files = (bundle / PLAN_FILE, *bundle.glob("*.py"), *(bundle / "mlspec_runtime").rglob("*.py"))
    yield from (path for path in (*files, *(bundle / "user").rglob("*")) if path.is_file())


def _add(digest: hashlib._Hash, *parts: object) -> None:
    digest.update(os.fsencode("\0".join(map(str, parts))) + b"\n")
