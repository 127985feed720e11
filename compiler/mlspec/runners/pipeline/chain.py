"""What flows through a pipeline: where each stage's inputs come from, and whether they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlspec.characters import quoted
from mlspec.model.document import Pointer
from mlspec.model.signature import Tensor
from mlspec.runners import Faults
from mlspec.runners.pipeline.model import PipelineModel
from mlspec.runners.pipeline.stages import Opened
from mlspec.suggest import did_you_mean, listed
from mlspec.tensors.batching import stackable
from mlspec.tensors.fitting import misfit
from mlspec.tensors.plan import TensorModelPlan
from mlspec.tensors.steps import Stepped

Dimension = int | str


@dataclass(frozen=True)
class Planned:
    """A stage with what its runner decided, and what it takes and gives with its steps."""

    opened: Opened
    own: TensorModelPlan
    asked: Stepped


@dataclass(frozen=True)
class Source:
    """Where an array comes from (`image` of the request, or `detector.crops`), and what it is there."""

    name: str
    tensor: Tensor


@dataclass
class Chain:
    """The pipeline's `inputs` and `outputs`, and by stage, where its inputs come from (`takes`) and, last, the outputs.

    Dimensions have the names that they have in the pipeline's inputs, or in the stage that made them.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    takes: list[Mapping[str, str]] = field(default_factory=list)
    gives: Mapping[str, str] = field(default_factory=dict)
    rows_apart: bool = True
    """Whether each stage's rows are those of the requests, so that several requests can be computed together."""


def chained(model: PipelineModel, stages: Sequence[Planned], faults: Faults) -> Chain | None:
    """The stages put together; None after a fault was reported, in the pipeline's block."""
    chain = Chain(model.inputs if model.inputs is not None else _inputs_of(stages[0]))
    there = {tensor.name: Source(tensor.name, tensor) for tensor in chain.inputs}
    for stage in stages:
        if not _add(stage, chain, there, faults):
            return None
    fits = _close(model, stages[-1], chain, there, faults)
    return chain if fits and _all_are_taken(model, chain, faults) else None


def _inputs_of(first: Planned) -> tuple[Tensor, ...]:
    names = first.opened.stage.inputs
    return tuple(t.model_copy(update={"name": names.get(t.name, t.name)}) for t in first.asked.inputs)


def _add(stage: Planned, chain: Chain, there: dict[str, Source], faults: Faults) -> bool:
    """One more stage: False after a fault was reported."""
    if not _names_known(stage, faults):
        return False
    sources = {tensor.name: _source(tensor, stage, there, faults) for tensor in stage.asked.inputs}
    found = {name: source for name, source in sources.items() if source is not None}
    if len(found) < len(sources):
        return False
    sizes = _sizes(stage, found)
    rows = _keeps_rows(stage, found, chain)
    chain.takes.append({name: source.name for name, source in found.items()})
    chain.rows_apart = chain.rows_apart and rows
    for tensor in _outputs(stage, sizes, there):
        place = f"{stage.opened.name}.{tensor.name}"
        there[place] = there[tensor.name] = Source(place, tensor)
    return True


def _names_known(stage: Planned, faults: Faults) -> bool:
    takes = [tensor.name for tensor in stage.asked.inputs]
    for name in stage.opened.stage.inputs:
        if name not in takes:
            message = f"the stage {quoted(stage.opened.name)} has no input {quoted(name)}"
            help = did_you_mean(name, takes) or f"it takes {listed(map(quoted, takes))}"
            faults.error("bad-stage", message, (*stage.opened.place, "inputs", name), help=help)
            return False
    return True


def _source(tensor: Tensor, stage: Planned, there: Mapping[str, Source], faults: Faults) -> Source | None:
    """Where an input comes from; None after a fault was reported."""
    given = stage.opened.stage.inputs.get(tensor.name)
    place: Pointer = (*stage.opened.place, "name") if given is None else (*stage.opened.place, "inputs", tensor.name)
    source = there.get(given or tensor.name)
    whose = f"the input {quoted(tensor.name)} of the stage {quoted(stage.opened.name)}"
    if source is None:
        help = f"say where it comes from: inputs: {{{tensor.name}: …}}; there is {listed(map(quoted, _names(there)))}"
        near = did_you_mean(given, there) if given else ""
        faults.error(
            "bad-stage",
            f"{whose}: nothing before it is called {quoted(given or tensor.name)}",
            place,
            help=near or help,
        )
    elif told := misfit(source.tensor, tensor):
        help = "let a step of the stage (pre) make it fit, or name another array"
        faults.error("bad-stage", f"{whose}: {quoted(source.name)} {told}", place, help=help)
        return None
    return source


def _names(there: Mapping[str, Source]) -> Iterator[str]:
    """What there is, each once, by its full name."""
    return iter(dict.fromkeys(source.name for source in there.values()))


def _sizes(stage: Planned, found: Mapping[str, Source]) -> dict[str, Dimension]:
    """What the names of the stage's dimensions stand for in the pipeline."""
    sizes: dict[str, Dimension] = {}
    for tensor in stage.asked.inputs:
        for own, outer in zip(tensor.shape, found[tensor.name].tensor.shape, strict=True):
            if isinstance(own, str):
                sizes.setdefault(own, outer)
    return sizes


def _outputs(stage: Planned, sizes: Mapping[str, Dimension], there: Mapping[str, Source]) -> Iterator[Tensor]:
    taken = {dimension for source in there.values() for dimension in source.tensor.shape}
    prefix = stage.opened.name.replace("-", "_")
    for tensor in stage.asked.outputs:
        shape = tuple(_outer(dimension, sizes, taken, prefix) for dimension in tensor.shape)
        yield tensor.model_copy(update={"shape": shape})


def _outer(dimension: Dimension, sizes: Mapping[str, Dimension], taken: set[Dimension], prefix: str) -> Dimension:
    """A dimension that the stage makes has a name of its own: equal names would mean equal sizes."""
    if isinstance(dimension, int) or dimension in sizes:
        return dimension if isinstance(dimension, int) else sizes[dimension]
    return f"{prefix}_{dimension}" if dimension in taken else dimension


def _keeps_rows(stage: Planned, found: Mapping[str, Source], chain: Chain) -> bool:
    """Whether rows of several requests can go through the stage together, and come out as many."""
    batch = chain.inputs[0].shape[:1]
    same = all(source.tensor.shape[:1] == batch for source in found.values())
    steps = (*stage.asked.pre, *stage.asked.post)
    own = stage.own.rows_apart and not any(step["step"] == "function" for step in steps)
    tensors = (*stage.own.inputs, *stage.own.outputs), (*stage.asked.inputs, *stage.asked.outputs)
    return same and own and all(map(stackable, tensors))


def _close(model: PipelineModel, last: Planned, chain: Chain, there: Mapping[str, Source], faults: Faults) -> bool:
    """The outputs: the last stage's, or those that are declared. False after a fault was reported."""
    ends = model.outputs
    if ends is None:
        named = {tensor.name: there[f"{last.opened.name}.{tensor.name}"] for tensor in last.asked.outputs}
        chain.outputs = tuple(source.tensor for source in named.values())
        chain.gives = {name: source.name for name, source in named.items()}
        return True
    for index, tensor in enumerate(ends):
        if tensor.name not in there:
            message = f"no stage gives {quoted(tensor.name)}"
            help = did_you_mean(tensor.name, there) or f"there is {listed(map(quoted, _names(there)))}"
            faults.error("bad-stage", message, ("outputs", index, "name"), help=help)
            return False
        if told := misfit(there[tensor.name].tensor, tensor):
            faults.error("bad-stage", f"{quoted(tensor.name)} {told}", ("outputs", index), help="declare it so")
            return False
    chain.outputs = ends
    chain.gives = {tensor.name: there[tensor.name].name for tensor in ends}
    return True


def _all_are_taken(model: PipelineModel, chain: Chain, faults: Faults) -> bool:
    taken = {source for takes in (*chain.takes, chain.gives) for source in takes.values()}
    for index, tensor in enumerate(chain.inputs):
        if tensor.name not in taken:
            place: Pointer = ("inputs", index, "name") if model.inputs is not None else ("stages", 0)
            message = f"no stage takes the input {quoted(tensor.name)}"
            faults.error("bad-stage", message, place, help="leave it out, or name it in a stage's inputs")
            return False
    return True
