"""What a model's file says that it takes and gives, held against what a spec declares."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from mlspec.characters import quoted
from mlspec.model.signature import Dtype, Tensor
from mlspec.runners import Faults
from mlspec.suggest import did_you_mean, listed

_STRANGE = re.compile(r"[^A-Za-z0-9_]+")
_LONGEST_NAME = 100
_EXPORT = "export the model with another type there, such as float32"
OF_TYPE = "of the type"
"""How `unfit` begins, where it is a tensor."""
_DTYPES = get_args(Dtype)


@dataclass(frozen=True)
class Found:
    """One input or output as a file has it: `name` as requests call it; `shape` None, where the file doesn't tell;
    `unfit` says what it is if no request or answer can hold it.
    """

    name: str
    dtype: str = "float32"
    shape: tuple[int | str, ...] | None = None
    unfit: str = ""

    def as_data(self) -> dict[str, Any]:
        """For the facts of a model: as `Tensor.settings()` where it is whole."""
        if self.unfit:
            return {"name": self.name, "unfit": self.unfit}
        shape = {} if self.shape is None else {"shape": list(self.shape)}
        return {"name": self.name, "dtype": self.dtype, **shape}

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> Found:
        """The inverse. Raises ValueError if the data, which may come from a lock, is none."""
        try:
            shape = None if data.get("shape") is None else tuple(data["shape"])
            found = Found(data["name"], data.get("dtype", "float32"), shape, data.get("unfit", ""))
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError("signature: no inputs and outputs") from problem
        texts = all(isinstance(text, str) for text in (found.name, found.dtype, found.unfit))
        sizes = all(type(size) in (int, str) for size in found.shape or ())
        if not texts or not sizes or found.dtype not in _DTYPES or identifier(found.name, ()) != found.name:
            raise ValueError("signature: no inputs and outputs")
        return found

    def tensor(self) -> Tensor:
        """As a spec would declare it."""
        return Tensor.model_validate(self.as_data())

    def __str__(self) -> str:
        return self.unfit or str(self.dtype if self.shape is None else self.tensor())


def identifier(name: str, taken: Collection[str]) -> str:
    """A name as specs and requests may have it, for one in a file, where it may be anything; another than those
    `taken`.
    """
    plain = (
        _STRANGE.sub("_", name).strip("_")[:_LONGEST_NAME] if not name.isidentifier() or not name.isascii() else name
    )
    plain = plain[:_LONGEST_NAME] or "tensor"
    first = plain if not plain[0].isdigit() else f"_{plain}"[:_LONGEST_NAME]
    found, count = first, 1
    while found in taken:
        count += 1
        found = f"{first[: _LONGEST_NAME - 6]}_{count}"
    return found


def compared(
    declared: Sequence[Tensor] | None, found: Sequence[Found], key: str, faults: Faults
) -> tuple[Tensor, ...] | None:
    """The inputs or outputs (`key`) of a model: as declared, if the file says the same, else as the file says.

    Of the outputs some may be left out. None after a fault was reported.
    """
    if declared is None:
        return _as_found(found, key, faults)
    by_name = {one.name: one for one in found}
    fine = [_fits(tensor, by_name, (key, index), faults) for index, tensor in enumerate(declared)]
    missing = [one for name, one in by_name.items() if name not in {tensor.name for tensor in declared}]
    if key == "inputs" and missing:
        told = listed(f"{quoted(one.name)} ({one})" for one in missing)
        message = f"the file also takes {told}, which {'is' if len(missing) == 1 else 'are'} not declared"
        faults.error("wrong-signature", message, (key,), help="declare all inputs, or none")
        return None
    return tuple(declared) if all(fine) else None


def agree(
    declared: Mapping[str, Sequence[Tensor]], found: Mapping[str, Sequence[Found]], assumed: str | None, faults: Faults
) -> bool:
    """Whether dimensions of one name in the file are declared by one name, or one size, on both sides (by key); else it
    was reported. What the file has no name for (`assumed`) may be declared as anything.
    """
    seen: dict[tuple[str, type], tuple[int | str, str]] = {}
    fine = True
    for key, index, at, size, own in _dimensions(declared, found):
        name = declared[key][index].name
        first, of = seen.setdefault((own, type(size)), (size, name))
        if first != size and own != assumed:
            message = (
                f"{quoted(own)} of the file is declared as {first} for {quoted(of)}, and as {size} for {quoted(name)}"
            )
            faults.error("wrong-signature", message, (key, index, "shape", at), help=f"write {first}: they are equal")
            fine = False
    return fine


def _dimensions(
    declared: Mapping[str, Sequence[Tensor]], found: Mapping[str, Sequence[Found]]
) -> Iterator[tuple[str, int, int, int | str, str]]:
    """Where each declared dimension is that has a name in the file, what is declared, and that name."""
    for key, tensors in declared.items():
        shapes = {one.name: one.shape or () for one in found[key]}
        for index, tensor in enumerate(tensors):
            for at, (size, own) in enumerate(zip(tensor.shape, shapes[tensor.name], strict=False)):
                if isinstance(own, str):
                    yield key, index, at, size, own


def _as_found(found: Sequence[Found], key: str, faults: Faults) -> tuple[Tensor, ...] | None:
    fine = True
    for one in found:
        if one.unfit or one.shape is None:
            why = f"is {one.unfit}" if one.unfit else "has no shape in the file"
            help = f"declare {key}" + (", without it" if key == "outputs" and one.unfit else " in the spec")
            if one.unfit and (key == "inputs" or one.unfit.startswith(OF_TYPE)):
                help = _EXPORT + (", or declare outputs, without it" if key == "outputs" else "")
            faults.error("wrong-signature", f"{key[:-1]} {quoted(one.name)} {why}", ("artifacts",), help=help)
            fine = False
    return tuple(one.tensor() for one in found) if fine else None


def _fits(tensor: Tensor, found: Mapping[str, Found], pointer: tuple[str | int, ...], faults: Faults) -> bool:
    if tensor.name not in found:
        names = list(found)
        help = did_you_mean(tensor.name, names) or f"it has {listed(map(quoted, names))}"
        message = f"the file has no {pointer[0][:-1] if isinstance(pointer[0], str) else ''} {quoted(tensor.name)}"
        faults.error("wrong-signature", message, (*pointer, "name"), help=help)
        return False
    own = found[tensor.name]
    if own.unfit:
        message = f"{quoted(tensor.name)} is {own.unfit} in the file: no request or answer can hold it"
        faults.error("wrong-signature", message, (*pointer, "name"), help=_EXPORT + ", or leave out an output")
        return False
    if tensor.dtype != own.dtype:
        message = f"{quoted(tensor.name)} is {own.dtype} in the file, and declared as {tensor.dtype}"
        given = "dtype" in tensor.model_fields_set
        where = (*pointer, "dtype") if given else pointer
        faults.error("wrong-signature", message, where, help=f"write dtype: {own.dtype}")
        return False
    return own.shape is None or _same_shape(tensor, own.shape, (*pointer, "shape"), faults)


def _same_shape(tensor: Tensor, shape: tuple[int | str, ...], pointer: tuple[str | int, ...], faults: Faults) -> bool:
    told = f"[{', '.join(map(str, shape))}]"
    if len(tensor.shape) != len(shape):
        message = (
            f"{quoted(tensor.name)} is {told} in the file, of {len(shape)} dimensions; declared are {len(tensor.shape)}"
        )
        faults.error("wrong-signature", message, pointer, help=f"write shape: {told}")
        return False
    for at, (declared, own) in enumerate(zip(tensor.shape, shape, strict=True)):
        if isinstance(own, int) and declared != own:
            message = f"{quoted(tensor.name)} is {told} in the file: there its dimension {at} is always {own}"
            help = f"write {own}, or save the model with a dimension that may change"
            faults.error("wrong-signature", message, (*pointer, at), help=help)
            return False
    return True
