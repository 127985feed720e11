"""Steps on images: requests give any size, the model gets its own."""

from __future__ import annotations

from typing import Literal

from mlspec.characters import quoted
from mlspec.model.frozen import Frozen
from mlspec.model.signature import Image, Tensor
from mlspec.tensors.steps.base import Applied, Around, Arrays, BadStepError, found, numbers, plain, replaced

_DTYPES = ("uint8", "float32")
_CHANNELS = (1, 3, 4)


class Resize(Frozen):
    """Images `[batch, height, width, channels]`, or gray ones `[batch, height, width]`, of any size to the model's.

    `fit`: `stretch` both sides; `crop` what sticks out of the model's after the shorter side fits, on both sides alike;
    `pad` with `fill` where the longer side fits. `height` and `width` None: as the model's shape says.
    """

    step: Literal["resize"]
    input: str
    height: int | None = None
    width: int | None = None
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    method: Literal["bilinear", "bicubic", "lanczos", "box", "nearest"] = "bilinear"
    fill: float = 0.0

    def taken(self, wanted: Arrays, around: Around) -> Applied:
        out = numbers(found(self.input, wanted, "input"), _DTYPES)
        if len(out.shape) not in (3, 4):
            message = f"{quoted(self.input)} is {out}; images are [batch, height, width, channels], or without channels"
            help = "a model with the channels first wants the step transpose after this one: order: [0, 3, 1, 2]"
            raise BadStepError(message, "input", help=help)
        if len(out.shape) == 4 and isinstance(out.shape[3], int) and out.shape[3] not in _CHANNELS:
            message = f"{quoted(self.input)} is {out}: its last dimension is the channels, 1, 3 or 4"
            help = "a model with the channels first wants the step transpose after this one: order: [0, 3, 1, 2]"
            raise BadStepError(message, "input", help=help)
        height, width = self._size(out, "height", self.height, 1), self._size(out, "width", self.width, 2)
        settings = {**dict(self), "height": height, "width": width}
        return Applied(replaced(wanted, self.input, self._any_size(out)), settings)

    def _size(self, out: Tensor, key: str, given: int | None, at: int) -> int:
        size = out.shape[at]
        if given is None and isinstance(size, str):
            message = f"{quoted(self.input)} is {out}: nothing says its {key}"
            raise BadStepError(message, "input", help=f"give {key}: 224, or what the model wants")
        if given is not None and isinstance(size, int) and size != given:
            message = f"{quoted(self.input)} is {out}: its {key} is {size}"
            raise BadStepError(message, key, help=f"leave it out, or write {size}")
        return size if isinstance(size, int) else int(given or 0)

    def _any_size(self, out: Tensor) -> Tensor:
        sides = (f"{self.input}_height", f"{self.input}_width")
        return plain(out, shape=(out.shape[0], *sides, *out.shape[3:]), image=_file(out))


def _file(out: Tensor) -> Image | None:
    """How the array comes as a file; None if it has neither one channel nor three."""
    if len(out.shape) == 3:
        return Image(mode="gray", layout="none")
    modes: dict[int | str, Literal["rgb", "gray"]] = {1: "gray", 3: "rgb"}
    mode = modes.get(out.shape[3])
    return Image(mode=mode) if mode else None
