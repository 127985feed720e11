"""Whether what a spec declares of a network goes with what its file turned out to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlspec.characters import quoted
from mlspec.model.facts import ModelFacts
from mlspec.model.signature import Tensor
from mlspec.runners import Faults
from mlspec.runners.torch.model import TorchModel
from mlspec.suggest import listed

_KINDS = {"float16": "float", "bfloat16": "float", "float32": "float", "float64": "float"}


def check_use(model: TorchModel, facts: ModelFacts, faults: Faults) -> bool:
    """Whether the block goes with what its file turned out to be; a fault if not."""
    if facts.details["format"] == "exported":
        return _is_trusted(model, facts, faults) and _needs_no_class(model, faults)
    name, whole = facts.details["file"], _is_the_one(model, facts, faults)
    if model.module is None:
        message = f"{quoted(name)} holds tensors: the network's class is needed, too"
        faults.error("missing-key", message, ("artifacts",), help="name its file and itself: module and class")
        whole = False
    for key in ("inputs", "outputs"):
        if getattr(model, key) is None:
            message = f"{quoted(name)} doesn't say what the network's {key} are"
            help = f"declare them: {key}: [{{name: x, dtype: float32, shape: [batch, 4]}}]"
            faults.error("missing-key", message, ("artifacts",), help=help)
            whole = False
    return whole


def _is_trusted(model: TorchModel, facts: ModelFacts, faults: Faults) -> bool:
    found, name = facts.files[0].sha256, facts.details["file"]
    if not model.trusted or model.sha256 is None:
        message = f"{quoted(name)} is an exported program, and loading one can run code that is in it"
        help = f"if it is your own, add trusted: true and sha256: {found}; or take a state dict, which is data"
        faults.error("untrusted-model", message, ("artifacts",), help=help)
        return False
    return _is_the_one(model, facts, faults)


def _is_the_one(model: TorchModel, facts: ModelFacts, faults: Faults) -> bool:
    """Whether the file has the digest that the spec gives, if any."""
    found = facts.files[0].sha256
    if model.sha256 in (None, found):
        return True
    message = f"{quoted(facts.details['file'])} isn't the file that is trusted: its digest is {found}"
    faults.error("untrusted-model", message, ("sha256",), help="bring the trusted file back, or look at the new one")
    return False


def _needs_no_class(model: TorchModel, faults: Faults) -> bool:
    """An exported program is a whole network of fixed types."""
    strange = [key for key in ("module", "arguments", "dtype") if key in model.model_fields_set]
    for key in strange:
        message = f"an exported program is a whole network, and has no use for {key}"
        faults.error("unknown-key", message, (key,), help="leave it out")
    return not strange


def signature_of(
    model: TorchModel, facts: ModelFacts, faults: Faults
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None:
    """The inputs and outputs: as declared, or as an exported program says; None after a fault was reported."""
    told = facts.details.get("signature")
    if told is None:
        return model.inputs or (), model.outputs or ()
    inputs = _agreed("inputs", model.inputs, told["inputs"], faults)
    outputs = _agreed("outputs", model.outputs, told["outputs"], faults)
    return None if inputs is None or outputs is None else (inputs, outputs)


def _agreed(
    key: str, declared: tuple[Tensor, ...] | None, told: Iterable[Mapping[str, Any]], faults: Faults
) -> tuple[Tensor, ...] | None:
    """As declared, where that is what the program has."""
    has = list(told)
    if declared is None:
        return tuple(
            Tensor(**{**one, "dtype": "float32" if one["dtype"] == "bfloat16" else one["dtype"]}) for one in has
        )
    if len(declared) != len(has):
        message = f"{len(declared)} {key} are declared, and the program has {len(has)}"
        faults.error("wrong-signature", message, (key,), help=f"it has {listed(_shown(one) for one in has)}")
        return None
    wrong = [at for at, (tensor, one) in enumerate(zip(declared, has, strict=True)) if not _agree(tensor, one)]
    for at in wrong:
        message = f"'{declared[at].name}' is declared as {declared[at]}; the program has {_shown(has[at])}"
        faults.error(
            "wrong-signature", message, (key, at), help="declare what the program has, or leave it to the file"
        )
    return None if wrong else declared


def _agree(tensor: Tensor, told: Mapping[str, Any]) -> bool:
    """Floats are converted; sizes that the program leaves open may be declared."""
    kinds = (_KINDS.get(dtype, dtype) for dtype in (tensor.dtype, told["dtype"]))
    sizes = zip(tensor.shape, told["shape"], strict=False)
    return (
        len(set(kinds)) == 1
        and len(tensor.shape) == len(told["shape"])
        and all(declared == has or isinstance(has, str) for declared, has in sizes)
    )


def _shown(told: Mapping[str, Any]) -> str:
    return f"{told['dtype']}[{', '.join(map(str, told['shape']))}]"
