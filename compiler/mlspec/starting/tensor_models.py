"""First specs of models of tensors: for their runners' `recognise`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.characters import visible
from mlspec.starting.place import ModelFolder
from mlspec.starting.recognising import NoModel
from mlspec.starting.spec_text import FirstModel, Key, Note
from mlspec.user_code import parsed

if TYPE_CHECKING:
    import ast

_TELL = "model.inputs and model.outputs are place holders: write what the model takes and gives"
_SERVICE = (
    Key("concurrency", "auto", off=True),
    Key("batching", "auto", off=True),
    Key("limits", {"timeout_s": 120}, off=True),
)


def of_file(
    place: ModelFolder, runner: str, about: str, endings: Iterable[str], *, tells_signature: bool
) -> FirstModel | None:
    """The first spec of a folder with a file (or a package, as Core ML's) of one of these endings.

    `tells_signature`: the file itself says what the model takes and gives. Raises CommandError and OSError.
    """
    found = _with_endings(place.folder, endings)
    if not found:
        return None
    signature = (_note_of_file(),) if tells_signature else _place_holders()
    return FirstModel(
        model=(Key("runner", runner, about), Key("artifacts", {"path": place.path()}), *_file_keys(found), *signature),
        service=_SERVICE,
        tests=_TESTS,
        tests_off=True,
        messages=(*_of_several(found), *(() if tells_signature else (_TELL,))),
        certainty=3,
    )


def of_network(place: ModelFolder, runner: str, about: str, endings: Iterable[str], package: str) -> FirstModel | None:
    """The first spec of a folder with tensors, and a Python file that imports `package` and has a class of a `Module`.

    Raises CommandError and OSError.
    """
    found = _with_endings(place.folder, endings)
    network = next(_classes(place.folder, package), None) if found else None
    if network is None:
        return None
    file, name = network
    return FirstModel(
        model=(
            Key("runner", runner, about),
            Key("artifacts", {"path": place.path()}),
            *_file_keys(found),
            Key("module", place.path(file.name), "copied into the bundle; files: [FOLDER] adds what it imports"),
            Key("class", name),
            Key("arguments", {"classes": 10}, "what the class is made with", off=True),
            *_place_holders(),
        ),
        service=_SERVICE,
        tests=_TESTS,
        tests_off=True,
        messages=(*_of_several(found), _TELL),
        certainty=3,
    )


def of_class(place: ModelFolder, runner: str, about: str, methods: Collection[str]) -> FirstModel | None:
    """The first spec of a folder with a Python file that has a class with one of these methods.

    Raises CommandError and OSError.
    """
    found = next(_classes_with(place.folder, methods), None)
    if found is None:
        return None
    file, name = found
    others = any(entry != file and not entry.name.startswith((".", "__")) for entry in place.folder.iterdir())
    artifacts = Key("artifacts", {"path": place.path()}, "its load gets this folder", off=not others)
    return FirstModel(
        model=(
            Key("runner", runner, about),
            artifacts,
            Key("module", place.path(file.name), "copied into the bundle; files: [FOLDER] adds what it imports"),
            Key("class", name),
            Key("requirements", ["pillow==12.0.0"], "what it imports, beside numpy", off=True),
            *_place_holders(),
        ),
        service=_SERVICE,
        tests=_TESTS,
        tests_off=True,
        messages=(_TELL,),
        certainty=1,
    )


def of_pickles(place: ModelFolder, endings: Iterable[str], help: str) -> NoModel | None:
    """Why a folder with nothing but pickles can't be served."""
    found = _with_endings(place.folder, endings)
    return NoModel("holds a pickle; mlspec never opens one", help, 1) if found else None


def of_tensors(place: ModelFolder, endings: Iterable[str], help: str) -> NoModel | None:
    """Why tensors without any code can't be served."""
    found = _with_endings(place.folder, endings)
    if not found or any(place.folder.glob("*.py")):
        return None
    certainty = 1 if (place.folder / "config.json").exists() else 3
    message = f"{visible(found[0])} holds a network's tensors, and no .py file is here with its class"
    return NoModel(message, help, certainty)


_TESTS = ({"name": "answers", "predict": {"inputs": {"x": [[0.0, 0.0]]}}, "expect": {"status": 200}},)


def _with_endings(folder: Path, endings: Iterable[str]) -> list[str]:
    return sorted(entry.name for ending in endings for entry in folder.glob(f"[!.]*{ending}"))


def _file_keys(found: list[str]) -> tuple[Key, ...]:
    return (Key("file", found[0], "of several"),) if len(found) > 1 else ()


def _of_several(found: list[str]) -> tuple[str, ...]:
    return (f"model.file is {found[0]}, the first of {len(found)} in the folder",) if len(found) > 1 else ()


def _note_of_file() -> Note:
    return Note("inputs and outputs are as the file says; mlspec plan shows them")


def _place_holders() -> tuple[Key | Note, ...]:
    return (
        Note("What it takes and gives: fill in, and take the '#' away."),
        Key("inputs", [{"name": "x", "dtype": "float32", "shape": ["batch", 2]}], off=True),
        Key("outputs", [{"name": "y", "dtype": "float32", "shape": ["batch", 2]}], off=True),
    )


def _classes(folder: Path, package: str) -> Iterator[tuple[Path, str]]:
    """The networks in the folder's modules that import the package: the last class of a module comes first, as it is
    usually made of the others.
    """
    for file, tree in _modules(folder):
        if package in _imported(tree):
            yield from ((file, node.name) for node in reversed(_defined(tree)) if _is_network(node))


def _classes_with(folder: Path, methods: Collection[str]) -> Iterator[tuple[Path, str]]:
    for file, tree in _modules(folder):
        for node in reversed(_defined(tree)):
            if any(getattr(member, "name", None) in methods for member in node.body):
                yield file, node.name


def _modules(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for file in sorted(folder.glob("[!._]*.py")):
        tree = parsed(file)
        if not isinstance(tree, str):
            yield file, tree


def _imported(tree: ast.Module) -> set[str]:
    import ast

    plain = (alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names)
    from_ = (node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level)
    return {name.partition(".")[0] for name in (*plain, *from_)}


def _defined(tree: ast.Module) -> list[ast.ClassDef]:
    import ast

    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _is_network(node: ast.ClassDef) -> bool:
    import ast

    return any(ast.unparse(base).rpartition(".")[2] == "Module" for base in node.bases)
