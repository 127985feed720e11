"""Steps on arrays of any kind: other names, and functions of the user's own."""

from __future__ import annotations

from typing import Any, Literal

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Tensor
from mlspec.tensors.steps.base import Applied, Around, Arrays, BadStepError, found


class Rename(Frozen):
    """`names` maps names before the step to names after it."""

    step: Literal["rename"]
    names: dict[str, str]

    def taken(self, wanted: Arrays, around: Around) -> Applied:
        for new in self.names.values():
            found(new, wanted, "names")
        return self._renamed(wanted, {new: old for old, new in self.names.items()})

    def given(self, available: Arrays, around: Around) -> Applied:
        for old in self.names:
            found(old, available, "names")
        return self._renamed(available, self.names)

    def _renamed(self, arrays: Arrays, names: dict[str, str]) -> Applied:
        renamed = [t.model_copy(update={"name": names.get(name, name)}) for name, t in arrays.items()]
        if len({t.name for t in renamed}) < len(renamed) or len(set(self.names.values())) < len(self.names):
            raise BadStepError("two arrays would have one name", "names", help="give each a name of its own")
        settings = {"step": self.step, "names": dict(self.names)}
        return Applied({t.name: t for t in renamed}, settings)


class Function(Frozen):
    """A function `name` in the project's file `module`: it gets all arrays by their names, and gives all.

    `inputs` are what it takes where it stands before the model, `outputs` what it gives where it stands after it; left
    out: what the spec says that requests and answers hold.
    """

    step: Literal["function"]
    module: str
    name: str
    files: tuple[str, ...] = ()
    inputs: tuple[Tensor, ...] | None = None
    outputs: tuple[Tensor, ...] | None = None

    def taken(self, wanted: Arrays, around: Around) -> Applied:
        takes = self._declared("inputs", self.inputs, around, "takes")
        return Applied(takes, self._settings(takes, wanted))

    def given(self, available: Arrays, around: Around) -> Applied:
        gives = self._declared("outputs", self.outputs, around, "gives")
        return Applied(gives, self._settings(available, gives))

    def _declared(
        self, key: Literal["inputs", "outputs"], own: tuple[Tensor, ...] | None, around: Around, does: str
    ) -> Arrays:
        tensors = own if own is not None else around.declared
        if tensors is None:
            message = f"nothing says what {quoted(self.name)} {does}"
            raise BadStepError(message, "name", help=f"declare service.{key}, or give the step {key}: [...]")
        return {tensor.name: tensor for tensor in tensors}

    def _settings(self, takes: Arrays, gives: Arrays) -> dict[str, Any]:
        settings = {"step": self.step, "module": f"user/{self.module}", "name": self.name, "takes": list(takes)}
        return {**settings, "gives": [tensor.settings() for tensor in gives.values()]}
