"""An ONNX file as its reader sees it: what the model takes and gives, its versions, and where its tensors lie.

Read are the heads of all parts, and the nodes, as tensors can be in them; the tensors' numbers are not. Field numbers
are those of onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlspec.characters import visible
from mlspec.looking import NO_FILE, kind_of
from mlspec.model_files import BadModelFileError
from mlspec.protobuf import Field, Message, opened, signed
from mlspec.runners.onnx.tensors import Stored, stored

OWN_DOMAIN = ("", "ai.onnx")
"""ONNX's own operators are of neither or of this domain."""
_MOST_NESTED = 32
_KINDS = {4: "a sequence", 5: "a map", 7: "an opaque value", 8: "a sparse tensor", 9: "an optional value"}


@dataclass(frozen=True)
class Value:
    """An input or output of the graph. `kind` says what it is if it is no tensor; `data_type` is a number of
    `TensorProto.DataType`; a dimension is its size, its name, or None; `shape` None: nothing is said of it.
    """

    name: str
    kind: str | None = None
    data_type: int = 0
    shape: tuple[int | str | None, ...] | None = None


@dataclass
class Graph:
    """A whole model. `inputs` are without those that have a tensor in the file to stand for them; `domains` are those
    of the operators that it uses and doesn't define itself; `operators` are those of ONNX's own domain, likewise.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    tensors: list[Stored] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    own_operators: set[str] = field(default_factory=set)

    @property
    def tensor_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def files(self) -> dict[str, int]:
        """The files that tensors lie in, and how many bytes each must have."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            if tensor.file is not None:
                found[tensor.file] = max(found.get(tensor.file, 0), tensor.end)
        return found


def read_graph(path: Path) -> Graph:
    """The model in a file.

    Raises:
        BadModelFileError: it is missing, cut off, or no model in ONNX.
        OSError: it can't be read.
    """
    graph, name, kind = Graph(), visible(path.name), kind_of(path)
    if kind != "file":
        raise BadModelFileError(f"{name}: {NO_FILE[kind]}")
    with path.open("rb") as file:
        try:
            _model(opened(file.fileno()), graph)
        except BadModelFileError as problem:
            raise BadModelFileError(f"{name}: is no model in ONNX: {problem}") from problem
    if not graph.ir_version or not graph.outputs:
        raise BadModelFileError(f"{name}: is no model in ONNX: it has no graph")
    initialized = {tensor.name for tensor in graph.tensors}
    graph.inputs = [value for value in graph.inputs if value.name not in initialized]
    graph.domains -= graph.functions
    graph.operators -= graph.own_operators
    return graph


def _each(message: Message, readers: dict[int, Callable[[Field], None]]) -> None:
    for found in message.fields():
        if found.number in readers:
            readers[found.number](found)


def _model(message: Message, graph: Graph) -> None:
    def version(found: Field) -> None:
        graph.ir_version = signed(found.value)

    def opset(found: Field) -> None:
        domain, number = _opset(message.message(found))
        graph.opsets[domain or "ai.onnx"] = number

    readers: dict[int, Callable[[Field], None]] = {
        1: version,
        7: lambda found: _graph(message.message(found), graph, 0),
        8: opset,
        25: lambda found: _function(message.message(found), graph),
    }
    _each(message, readers)


def _opset(message: Message) -> tuple[str, int]:
    domain, number = "", 0
    for found in message.fields():
        if found.number == 1:
            domain = message.text(found)
        elif found.number == 2:
            number = signed(found.value)
    return domain, number


def _graph(message: Message, graph: Graph, depth: int) -> None:
    """A graph, or one within a node: of that the tensors alone count."""
    if depth > _MOST_NESTED:
        raise BadModelFileError("its graphs are nested too deeply")

    def tensor(found: Field) -> None:
        read = stored(message.message(found))
        graph.tensors.append(read if depth == 0 else _unnamed(read))

    readers: dict[int, Callable[[Field], None]] = {
        1: lambda found: _node(message.message(found), graph, depth),
        5: tensor,
        15: lambda found: _sparse(message.message(found), graph),
    }
    if depth == 0:
        readers[11] = lambda found: graph.inputs.append(_value(message.message(found)))
        readers[12] = lambda found: graph.outputs.append(_value(message.message(found)))
    _each(message, readers)


def _node(message: Message, graph: Graph, depth: int) -> None:
    told = {4: "", 7: ""}

    def text(found: Field) -> None:
        told[found.number] = message.text(found)

    _each(message, {4: text, 5: lambda found: _attribute(message.message(found), graph, depth), 7: text})
    graph.domains.add(told[7])
    if told[7] in OWN_DOMAIN:
        graph.operators.add(told[4])


def _attribute(message: Message, graph: Graph, depth: int) -> None:
    def tensor(found: Field) -> None:
        graph.tensors.append(_unnamed(stored(message.message(found))))

    def inner(found: Field) -> None:
        _graph(message.message(found), graph, depth + 1)

    def sparse(found: Field) -> None:
        _sparse(message.message(found), graph)

    _each(message, {5: tensor, 10: tensor, 6: inner, 11: inner, 22: sparse, 23: sparse})


def _sparse(message: Message, graph: Graph) -> None:
    def part(found: Field) -> None:
        graph.tensors.append(stored(message.message(found)))

    _each(message, {1: part, 2: part})


def _unnamed(tensor: Stored) -> Stored:
    """Not of the graph itself: its name stands for no input."""
    return Stored("", tensor.size_bytes, tensor.file, tensor.end)


def _function(message: Message, graph: Graph) -> None:
    told = {1: "", 10: ""}

    def text(found: Field) -> None:
        told[found.number] = message.text(found)

    _each(message, {1: text, 7: lambda found: _node(message.message(found), graph, 0), 10: text})
    graph.functions.add(told[10])
    if told[10] in OWN_DOMAIN:
        graph.own_operators.add(told[1])


def _value(message: Message) -> Value:
    """A `ValueInfoProto`."""
    name, value = "", Value("", kind="a value of no type")
    for found in message.fields():
        if found.number == 1:
            name = message.text(found)
        elif found.number == 2:
            value = _type(message.message(found))
    return Value(name, value.kind, value.data_type, value.shape)


def _type(message: Message) -> Value:
    for found in message.fields():
        if found.number == 1:
            return _tensor_type(message.message(found))
        if found.number in _KINDS:
            return Value("", kind=_KINDS[found.number])
    return Value("", kind="a value of no type")


def _tensor_type(message: Message) -> Value:
    data_type, shape = 0, None
    for found in message.fields():
        if found.number == 1:
            data_type = found.value
        elif found.number == 2:
            shape = tuple(_dimensions(message.message(found)))
    return Value("", None, data_type, shape)


def _dimensions(message: Message) -> Iterator[int | str | None]:
    for found in message.fields():
        if found.number == 1:
            yield _dimension(message.message(found))


def _dimension(message: Message) -> int | str | None:
    """Sizes of 0 and below are how some exporters write that they don't know one."""
    size: int | str | None = None
    for found in message.fields():
        if found.number == 1:
            size = signed(found.value) if signed(found.value) > 0 else None
        elif found.number == 2:
            size = message.text(found) or None
    return size
