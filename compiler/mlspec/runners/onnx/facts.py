"""The facts of a model in ONNX: its signature, its versions, and the files that belong to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mlspec.characters import quoted, visible
from mlspec.looking import kind_of, stays_inside
from mlspec.model.facts import ModelFacts, ModelRef
from mlspec.model_files import BadModelFileError, fingerprint
from mlspec.runners.onnx.graph import Graph, Value, read_graph
from mlspec.runners.onnx.tensors import NAMES, OTHERS
from mlspec.runners.onnx.versions import unknown_operators
from mlspec.signatures import Found, identifier

ENDINGS = (".onnx",)
_COMPANIONS = (".json", ".txt")
_LONGEST_COMPANION_BYTES = 64 << 20
BATCH = "batch"


def read_facts(ref: ModelRef, folder: Path, name: str) -> ModelFacts:
    """The facts of the file `name` of the folder, with those that its tensors lie in, and those beside it that a step
    may read (a tokenizer's). `details`: `file`, `signature` (`inputs` and `outputs`), `names` (the file's own, of those
    that a request has to call otherwise), `ir_version`, `opsets`, `domains`; where there are some,
    `unknown_operators`, and `assumed`: what first dimensions are called that the file doesn't name.

    Raises:
        BadModelFileError: it is no model in ONNX, or tensors of it are missing.
        OSError: a file can't be read.
    """
    graph = read_graph(folder / name)
    data = [_checked(folder, name, file, size_bytes) for file, size_bytes in sorted(graph.files.items())]
    files = fingerprint(folder, {name, *data, *_companions(folder)})
    return ModelFacts(ref, files, graph.tensor_bytes, {"file": name, **_details(graph)})


def _checked(folder: Path, name: str, file: str, size_bytes: int) -> str:
    """A file of tensors, which must lie in the model's folder and have all of their bytes."""
    path, shown = PurePosixPath(file), quoted(file)
    if not file or path.is_absolute() or ".." in path.parts or "\\" in file or visible(file) != file:
        raise BadModelFileError(f"{visible(name)}: its tensors lie in {shown}, which is no file of the model's folder")
    if not stays_inside(folder / path, folder) and not _in_hub_cache(folder, folder / path):
        raise BadModelFileError(f"{visible(name)}: {shown}, in which its tensors lie, leads out of the model's folder")
    if kind_of(folder / path) != "file":
        raise BadModelFileError(f"{visible(name)}: {shown}, in which its tensors lie, is missing")
    if (found := (folder / path).stat().st_size) < size_bytes:
        raise BadModelFileError(f"{shown} has {found:,} bytes; the tensors of {visible(name)} need {size_bytes:,}")
    return str(path)


def _in_hub_cache(folder: Path, path: Path) -> bool:
    """Hugging Face's cache keeps a snapshot's files in `blobs`, beside `snapshots`, and links to them."""
    return folder.parent.name == "snapshots" and stays_inside(path, folder.parent.parent / "blobs")


def _companions(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.suffix in _COMPANIONS and kind_of(path) == "file" and path.stat().st_size <= _LONGEST_COMPANION_BYTES:
            yield path.name


def _details(graph: Graph) -> dict[str, Any]:
    dimensions = _Dimensions()
    inputs, input_names = _found(graph.inputs, dimensions, batch=True)
    outputs, output_names = _found(graph.outputs, dimensions, batch=False)
    unknown = unknown_operators(graph.operators, graph.opsets.get("ai.onnx"))
    return {
        **({"unknown_operators": unknown} if unknown else {}),
        **({"assumed": dimensions.assumed} if dimensions.assumed else {}),
        "signature": {"inputs": inputs, "outputs": outputs},
        "names": {"inputs": input_names, "outputs": output_names},
        "ir_version": graph.ir_version,
        "opsets": dict(sorted(graph.opsets.items())),
        "domains": sorted(graph.domains - {""}),
    }


def _found(values: Iterable[Value], dimensions: _Dimensions, *, batch: bool) -> tuple[list[Any], dict[str, str]]:
    """Each as requests call it, and the file's own names of those that are called otherwise there."""
    named: dict[str, str] = {}
    found = []
    for value in values:
        name = identifier(value.name, named)
        named[name] = value.name
        found.append(_one(name, value, dimensions, batch=batch).as_data())
    return found, {name: own for name, own in named.items() if name != own}


def _one(name: str, value: Value, dimensions: _Dimensions, *, batch: bool) -> Found:
    if value.kind is not None:
        return Found(name, unfit=value.kind)
    if value.data_type not in NAMES:
        return Found(name, unfit=f"of the type {OTHERS.get(value.data_type, value.data_type)}")
    if value.shape is None:
        return Found(name, NAMES[value.data_type])
    shape = [dimensions.named(size, name, at, batch=batch) for at, size in enumerate(value.shape)]
    return Found(name, NAMES[value.data_type], tuple(shape))


class _Dimensions:
    """What dimensions without a size are called: equal names in the file stay equal, and no others become so.

    The first one of an input is the batch's where the file doesn't name it; of an output that could be anything.
    """

    def __init__(self) -> None:
        self._names: dict[object, str] = {}

    def named(self, size: int | str | None, tensor: str, at: int, *, batch: bool) -> int | str:
        if isinstance(size, int):
            return size
        if size is None and at == 0 and batch:
            return self._of((BATCH,), BATCH)
        return self._of(size, size) if size else self._of((tensor, at), f"{tensor}_{at}")

    @property
    def assumed(self) -> str | None:
        """The name of the first dimension of inputs that have no name for it."""
        return self._names.get((BATCH,))

    def _of(self, key: object, wanted: str) -> str:
        if key not in self._names:
            self._names[key] = identifier(wanted, self._names.values())
        return self._names[key]


def believe(details: Mapping[str, Any]) -> None:
    """That details from a lock are as `read_facts` makes them. Raises ValueError."""
    signature = details.get("signature")
    if not isinstance(details.get("file"), str) or not isinstance(signature, Mapping):
        raise ValueError("not the facts of a model in ONNX")
    for key in ("inputs", "outputs"):
        if not isinstance(signature.get(key), Sequence):
            raise ValueError(f"signature: no {key}")
        for one in signature[key]:
            Found.of_data(one)
    names = (*(details.get("unknown_operators") or ()), details.get("assumed") or "")
    if not all(isinstance(name, str) for name in names):
        raise ValueError("unknown_operators, assumed: no names")
    numbers = (details.get("ir_version"), *dict(details.get("opsets") or {}).values())
    if not all(type(number) is int for number in numbers):
        raise ValueError("ir_version, opsets: no versions")
