"""The example that mlspec ships: a spec, a tiny language model and an adapter for it."""

from __future__ import annotations

import filecmp
import shlex
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mlspec.errors import CommandError
from mlspec.resources import folder
from mlspec.starting import Written
from mlspec.starting.project import cannot_write, mark_root, new_file

SPEC = Path("specs", "lora.yaml")
MODELS = (Path("specs", "models", "tiny"), Path("specs", "models", "tiny-support"))


def write_example(target: Path, shown: Callable[[Path], str] = str) -> Written:
    """Write the example below `target`. What is there already and the same is left; the spec comes last.

    `shown` is how the user would type a path.

    Raises:
        CommandError: something else is there, or it can't be written.
    """
    shipped = folder("specs").parent
    missing = [model for model in MODELS if not _is_there(shipped / model, target / model)]
    if (target / SPEC).exists():
        help = "mlspec never overwrites a file: write the example into an empty folder"
        raise CommandError("file-exists", f"{target / SPEC} is there already", help)
    for model in missing:
        _copy_folder(shipped / model, target / model)
    new_file(target / SPEC, (shipped / SPEC).read_text(encoding="utf-8"))
    marked = mark_root(target, (target / SPEC).parent)
    paths = tuple(target / path for path in (SPEC, *missing))
    return Written((*paths, *marked), (f"now: mlspec serve {shlex.quote(shown(target / SPEC))}",))


def _is_there(shipped: Path, place: Path) -> bool:
    """Whether the folder is there as it is shipped."""
    if not place.exists():
        return False
    names = _files(shipped)
    if place.is_dir() and filecmp.cmpfiles(shipped, place, names, shallow=False)[0] == names:
        return True
    help = "mlspec never overwrites a model: write the example into an empty folder"
    raise CommandError("file-exists", f"{place} is there already, and another one", help)


def _copy_folder(shipped: Path, place: Path) -> None:
    """Copy the files of a folder beside its place, then rename: nobody sees half of it."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as name:
            temporary = Path(name, place.name)
            temporary.mkdir()
            for file in _files(shipped):
                shutil.copyfile(shipped / file, temporary / file)
            temporary.rename(place)
    except OSError as problem:
        raise cannot_write(place, problem) from problem


def _files(shipped: Path) -> Sequence[str]:
    return sorted(path.name for path in shipped.iterdir() if path.is_file())
