"""Whether an adapter fits its base, by the headers of both: what mlx_lm would find out when the service starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlspec.characters import quoted
from mlspec.model.facts import Facts, ModelFacts
from mlspec.runners import Faults
from mlspec.runners.mlx_lm.facts.adapter_modules import unpaired
from mlspec.runners.mlx_lm.model import MlxLmModel
from mlspec.runners.mlx_lm.packing import Packing
from mlspec.runners.mlx_lm.tensor_table import Row, covers, numbers, pattern
from mlspec.runners.mlx_lm.weights import loaded_rows

_EMBEDDING = re.compile(r"(embed\w*|wte|wpe|embeddings?)$")
_SUFFIX = re.compile(
    r"[-_.](mlx|hf|bf16|fp16|f16|fp32|dwq|awq|gptq|qat|mxfp[48]|nvfp4|q\d(_\d)?|\d(\.\d+)?[-_]?bits?|int\d)$"
)


def check_fit(model: MlxLmModel, facts: Facts, faults: Faults) -> bool:
    """That each adapter of the model fits its base; False after a fault, which names the tensor, was reported."""
    base = _Base.of(facts.of("base"))
    fits = True
    for index, adapter in enumerate(model.adapters):
        found = facts.of(f"adapters/{adapter.name}")
        reason = next(_misfits(found.details, base, model.base.hf), None)
        if reason is not None:
            message = f"{quoted(adapter.name)} doesn't fit the base: {reason}"
            help = "name the base that it was trained on, or train it on this one"
            faults.error("adapter-misfit", message, ("adapters", index), help=help)
            fits = False
    return fits


@dataclass(frozen=True)
class _Base:
    """What an adapter must fit: `rows` are the tensors in memory, `real` the same with the shapes that packed ones
    stand for. `layers` is the number of decoder layers; `known`: the names are sure to be those that mlx_lm has.
    """

    rows: Mapping[str, Sequence[Row]]
    real: Mapping[str, Sequence[Row]]
    layers: int
    known: bool

    @staticmethod
    def of(facts: ModelFacts) -> _Base:
        rows, packing = loaded_rows(facts.details), facts.details["packing"]
        real = Packing.from_data(packing).unpacked(rows) if packing else rows
        architecture = facts.details["architecture"]
        return _Base(_by_name(rows), _by_name(real), architecture["layers"], bool(facts.details["families"]))

    def holds(self, key: str) -> bool:
        """Whether a key of lora_parameters names a module, in the layers or from the model's root."""
        name = f"{pattern(key)[0]}.weight"
        return any(known == name or known.endswith(f".*.{name}") for known in self.rows)


def _misfits(details: Mapping[str, Any], base: _Base, hub_name: str | None) -> Iterator[str]:
    rows = [Row.from_data(row) for row in details["tensors"]]
    check = _misfit_whole if details["fine_tune_type"] == "full" else _misfit_low_rank
    for row in rows:
        if reason := _misfit_layer(row, base) or check(row, base, details.get("rank", 0)):
            yield reason
    if details["fine_tune_type"] != "full" and (lacking := unpaired(details["fine_tune_type"], rows)):
        yield f"it has no tensor {quoted(lacking)} beside those of the same module"
    for key in details.get("keys") or ():
        if base.known and not base.holds(key):
            yield f"its lora_parameters name the module {quoted(key)}, which no layer of the base has"
    other = details["base_model"]
    if other is not None and hub_name is not None and _plain(other) != _plain(hub_name):
        yield f"its configuration says that it was trained on {quoted(other)}, the spec's base is {quoted(hub_name)}"


def _misfit_layer(row: Row, base: _Base) -> str | None:
    """A layer that the base hasn't, told before anything is said of its module."""
    module = row.name.rpartition(".")[0]
    if not base.layers or row.layers is None or row.layers[-1][1] < base.layers or not _in_layers(module):
        return None
    beyond = next(number for number in numbers(row.layers) if number >= base.layers)
    return f"its tensor {quoted(_named(row, beyond))} is of layer {beyond}, the base's last layer is {base.layers - 1}"


def _in_layers(module: str) -> bool:
    return re.search(r"(^|\.)(layers|h|blocks)\.\*\.", module) is not None


def _misfit_low_rank(row: Row, base: _Base, rank: int) -> str | None:
    module, _, leaf = row.name.rpartition(".")
    problem = _module_missing(row, module, base)
    if problem is not None:
        return problem
    for number, owns in _beside(row, base.real.get(f"{module}.weight", ())):
        matrices = [own for own in owns if len(own.shape) in (2, 3)]
        if not matrices:
            return f"its tensor {quoted(_named(row, number))} adapts {_dimensions(owns[0])}: mlx_lm adapts matrices"
        wanted = [_shapes(own, module, rank)[leaf] for own in matrices]
        if row.shape not in wanted:
            return _misfit_shape(row, number, wanted[0], leaf)
    return None


def _misfit_whole(row: Row, base: _Base, rank: int) -> str | None:
    """A tensor that replaces the base's own."""
    owns = base.rows.get(row.name, ())
    missing = _missing(row, owns)
    if missing is not None and base.known:
        return f"the base has no tensor {quoted(_named(row, missing))}"
    for number, beside in _beside(row, owns):
        if row.shape not in [own.shape for own in beside]:
            return _misfit_shape(row, number, beside[0].shape, "")
    return None


def _module_missing(row: Row, module: str, base: _Base) -> str | None:
    missing = _missing(row, base.rows.get(f"{module}.weight", ()))
    if missing is None or not base.known:
        return None
    path = _named(row, missing).rpartition(".")[0]
    return f"the base has no module {quoted(path)} for its tensor {quoted(_named(row, missing))}"


def _misfit_shape(row: Row, number: int, wanted: Sequence[int], leaf: str) -> str:
    shape, told = (" x ".join(str(length) for length in lengths) or "a number" for lengths in (row.shape, wanted))
    by = "the base and the rank in its configuration want" if leaf.startswith("lora") else "the base wants"
    return f"its tensor {quoted(_named(row, number))} is {shape}, {by} {told}"


def _shapes(own: Row, module: str, rank: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of an adapter on this weight (mlx_lm.tuner.lora and .dora): of a Linear, an Embedding,
    or experts.
    """
    if len(own.shape) == 3:
        experts, rows, columns = own.shape
        return {"lora_a": (experts, rank, columns), "lora_b": (experts, rows, rank), "m": (rows,)}
    rows, columns = own.shape
    first, second = (rows, columns) if _EMBEDDING.search(module) else (columns, rows)
    return {"lora_a": (first, rank), "lora_b": (rank, second), "m": (rows,)}


def _dimensions(row: Row) -> str:
    return "a tensor of one dimension" if len(row.shape) == 1 else f"a tensor of {len(row.shape)} dimensions"


def _missing(row: Row, owns: Sequence[Row]) -> int | None:
    """The first layer of the row that none of the base's rows covers (0 where the name has no number); None if none."""
    if row.layers is None:
        return None if owns else 0
    held = [own.layers for own in owns if own.layers is not None]
    return next((n for n in numbers(row.layers) if not any(covers(layers, n) for layers in held)), None)


def _beside(row: Row, owns: Sequence[Row]) -> Iterator[tuple[int, Sequence[Row]]]:
    """For each layer of the row (0 where its name has no number) the base's rows of that name in it, if there are some.
    They may be several: modules that a further number tells apart.
    """
    for number in (0,) if row.layers is None else numbers(row.layers):
        found = [own for own in owns if (own.layers is None) == (row.layers is None)]
        here = [own for own in found if own.layers is None or covers(own.layers, number)]
        if here:
            yield number, here


def _named(row: Row, number: int) -> str:
    """The name of one of the row's tensors: the first number is known, others stay open."""
    return row.name.replace("*", str(number), 1) if row.layers is not None else row.name


def _by_name(rows: Sequence[Row]) -> Mapping[str, Sequence[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return found


def _plain(name: str) -> str:
    """A model's name on the hub without who published it, in which format and how packed."""
    plain = name.rpartition("/")[2].lower()
    while (shorter := _SUFFIX.sub("", plain)) != plain:
        plain = shorter
    return plain
